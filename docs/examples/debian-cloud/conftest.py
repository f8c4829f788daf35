"""The image under test, by architecture."""

import build_image
import pytest


@pytest.fixture(scope="session")
def built():
    return build_image.build("x86_64")


@pytest.fixture
def harness_images(built):
    return {"x86_64": built}
