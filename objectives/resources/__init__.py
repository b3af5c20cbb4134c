"""Objectives of resource use: parameters, memory and energy."""
