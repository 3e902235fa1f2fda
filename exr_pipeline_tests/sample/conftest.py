"""The show, made once for all tests of the session."""

import pytest

from exr_pipeline_tests.made_show import MadeShow, made_show


@pytest.fixture(scope="session")
def show(tmp_path_factory: pytest.TempPathFactory) -> MadeShow:
    return made_show(tmp_path_factory)
