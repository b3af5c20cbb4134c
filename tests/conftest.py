from tests.tiny import X
