"""Passwords and tokens are hidden in whatever is shown; everything else is shown as it is."""

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protege.spaces import BadInput, ProtegeError
from protege.spaces.errors import without_secrets

SECRET = "S3cr3tS3cr3tS3cr3t"

TOLD = {
    "a database": f"storage postgresql://me:{SECRET}@host:5432/db: not reached",
    "an @ in the password": f"mysql+pymysql://me:x@{SECRET}@host/db",
    "an endpoint": f'Could not connect to the endpoint URL: "https://key:{SECRET}@minio:9000/b"',
    "a token alone": f"https://{SECRET}@hub.example/model",
    "a query": f"postgresql://host/db?user=me&password={SECRET}&sslmode=require",
    "a signed request": f"https://bucket.example/o?X-Amz-Signature={SECRET}&x=1",
    "libpq": f"host=db password='{SECRET} x' user=me",
    "an environment": f"WANDB_API_KEY={SECRET}",
    "a header": f"Authorization: Bearer {SECRET}",
    "a hub token": f"401 for hf_{SECRET}",
}


@pytest.mark.parametrize("kind", TOLD)
def test_a_secret_is_hidden_in_text_and_in_every_error_of_the_project(kind: str) -> None:
    assert SECRET not in without_secrets(TOLD[kind])
    assert "***" in without_secrets(TOLD[kind])
    for error in (ProtegeError(TOLD[kind]), BadInput(TOLD[kind])):
        assert SECRET not in str(error) + repr(error) + str(pickle.loads(pickle.dumps(error)))


@given(st.text(st.characters(exclude_categories=("C", "Z")), max_size=20))
def test_no_character_of_a_password_lets_it_through(more: str) -> None:
    told = without_secrets(f"at postgresql+psycopg://me:{SECRET}{more}@host/db there")
    assert SECRET not in told
    assert told.startswith("at postgresql+psycopg://me:***@")


@pytest.mark.parametrize(
    "text",
    [
        "prompt_tokens=128, new_tokens=0; max_tokens is 32",
        "sqlite:////home/me@work/a:b@c/study.db",
        "ray://head:10001, s3://bucket/prefix, https://huggingface.co/org/model",
        "trial 3 (4x384-h6-f1344-t3): its weights were not kept",
        "user@host cannot be reached; try: ssh user@host",
    ],
)
def test_what_is_no_secret_is_shown(text: str) -> None:
    assert without_secrets(text) == text
