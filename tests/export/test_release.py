import json
import shutil
import subprocess
import sys
from datetime import date
from pathlib import Path

import pytest

from theta import ThetaModel
from theta.bases import descriptors
from theta.errors import DataError, ExportError, ThetaError
from theta.export import rehearsal
from theta.export.release import all_in, beside, model_in, of_folder, of_project, path_of
from theta.files import write_json, write_json_lines, write_text

DAY = date(2026, 11, 23)


def conversation(number: int, domain: str = "linux") -> dict[str, object]:
    messages = [{"role": "user", "content": f"What is {number}?"}, {"role": "assistant", "content": str(number)}]
    return {"domain": domain, "source": f"{domain}.json#{number}", "messages": messages}


@pytest.fixture
def project(tmp_path: Path, tiny_folder: Path) -> Path:
    """What the stages leave in a project."""
    root = tmp_path / "project"
    shutil.copytree(tiny_folder, root / "models/theta_final")
    base = {"name": "gpt2", "kind": "hub", "revision": "607a30d"}
    made_by = {"settings": {"epochs": 3}, "base": base, "versions": {}}
    write_json(root / "models/checkpoint/provenance.json", made_by)
    files = [{"name": "linux.json", "sha256": "abc"}]
    write_json(root / "models/base/data.json", {"kind": "local", "path": "Datasets/mine", "files": files})
    write_json_lines(root / "Datasets/prepared/train.jsonl", map(conversation, range(5)))
    write_json_lines(root / "Datasets/prepared/rehearsal.jsonl", (conversation(n, "base") for n in range(3)))
    for name in ("params.yaml", "dvc.lock", "metrics/replies.yaml", "metrics/report.html", "metrics/images/loss.svg"):
        write_text(root / name, name)
    write_json(root / "metrics/train.json", {"steps": 2})
    return root


def names(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_a_release_holds_the_model_and_what_is_known_about_it(project: Path, tiny_folder: Path) -> None:
    model = of_project(project, project / "models/r", "0123abc")
    assert model == project / "models/r/theta_final"
    assert {path.name: path.read_bytes() for path in model.iterdir()} == {
        path.name: path.read_bytes() for path in tiny_folder.iterdir()
    }
    beside = {"metrics/replies.yaml", "metrics/report.html", "metrics/train.json", "params.yaml", "dvc.lock"}
    assert names(project / "models/r") == {
        *beside, "provenance.json", "rehearsal.jsonl", *(f"theta_final/{path.name}" for path in tiny_folder.iterdir())
    }  # fmt: skip
    assert ThetaModel.load(model).generate("What is DNS?", max_length=3)


def test_what_was_taught_lies_beside_the_model_and_not_in_it(project: Path) -> None:
    model = of_project(project, project / "models/r", "0123abc")
    lines = (model.parent / "rehearsal.jsonl").read_text().splitlines()
    assert [json.loads(line)["domain"] for line in lines] == ["linux"] * 5 + ["base"]  # a quarter as many


def test_all_that_a_fine_tuned_base_was_taught_is_kept(project: Path) -> None:
    made_by = json.loads((project / "models/checkpoint/provenance.json").read_text())
    write_json(
        project / "models/checkpoint/provenance.json", {**made_by, "base": {**made_by["base"], "fine_tuned": True}}
    )
    model = of_project(project, project / "models/r", "0123abc")
    lines = (model.parent / "rehearsal.jsonl").read_text().splitlines()
    assert [json.loads(line)["domain"] for line in lines] == ["linux"] * 5 + ["base"] * 3


def test_the_provenance_names_data_settings_and_base(project: Path) -> None:
    made = json.loads((of_project(project, project / "models/r", "0123abc").parent / "provenance.json").read_text())
    assert (made["settings"]["epochs"], made["base"]["name"], made["revision"]) == (3, "gpt2", "0123abc")
    assert (made["data"]["path"], made["data"]["files"], len(made["data"]["sha256"])) == ("Datasets/mine", 1, 64)


def test_a_base_that_is_a_release_brings_its_rehearsal_and_its_lineage(project: Path) -> None:
    model = of_project(project, project / "models/r", "0123abc")
    weights, _ = descriptors.resolve(str(model), None, 0, ())
    assert descriptors.rehearsal(weights) == (model.parent / "rehearsal.jsonl").read_bytes()
    assert weights["made_by"]["base"]["name"] == "gpt2"
    assert weights["made_by"]["settings"] == {"epochs": 3}


def test_a_file_beside_another_model_is_no_rehearsal(project: Path, tiny_folder: Path) -> None:
    other = shutil.copytree(tiny_folder, project / "models/other")
    write_text(project / "models/rehearsal.jsonl", "{}")
    assert descriptors.rehearsal(descriptors.resolve(str(other), None, 0, ())[0]) == b""


def test_a_sample_leaves_half_to_what_was_known_before(tmp_path: Path) -> None:
    write_json_lines(tmp_path / "train.jsonl", map(conversation, range(90)))
    write_json_lines(tmp_path / "rehearsal.jsonl", (conversation(n, "base") for n in range(90)))
    for name in ("a", "b"):
        assert rehearsal.write(tmp_path, tmp_path / name, keeps_answers=True, kept=40) == 40
    assert (tmp_path / "a/rehearsal.jsonl").read_bytes() == (tmp_path / "b/rehearsal.jsonl").read_bytes()
    domains = [json.loads(line)["domain"] for line in (tmp_path / "a/rehearsal.jsonl").read_text().splitlines()]
    assert (domains.count("linux"), domains.count("base")) == (20, 20)


@pytest.mark.parametrize(
    ("own", "older", "keeps_answers", "expected"),
    [
        (90, 0, True, (40, 0)),
        (3, 90, True, (3, 37)),
        (90, 90, False, (20, 20)),
        (8, 90, False, (8, 2)),
        (8, 0, False, (8, 0)),
    ],
)
def test_how_much_of_what_is_kept(
    tmp_path: Path, own: int, older: int, keeps_answers: bool, expected: tuple[int, int]
) -> None:
    write_json_lines(tmp_path / "train.jsonl", map(conversation, range(own)))
    write_json_lines(tmp_path / "rehearsal.jsonl", (conversation(n, "base") for n in range(older)))
    rehearsal.write(tmp_path, tmp_path / "out", keeps_answers=keeps_answers, kept=40)
    domains = [
        json.loads(line)["domain"] for line in (tmp_path / "out/rehearsal.jsonl").read_text().split("\n") if line
    ]
    assert (domains.count("linux"), domains.count("base")) == expected


def test_the_name_is_the_day_and_a_second_one_gets_a_suffix(tmp_path: Path) -> None:
    assert path_of(tmp_path, DAY, None).name == "theta_enhanced_20261123"
    (tmp_path / "theta_enhanced_20261123").mkdir()
    assert path_of(tmp_path, DAY, None).name == "theta_enhanced_20261123_2"
    (tmp_path / "theta_enhanced_20261123_2.dvc").touch()  # tracked, and not checked out here
    assert path_of(tmp_path, DAY, None).name == "theta_enhanced_20261123_3"
    assert path_of(tmp_path, DAY, "bakery").name == "bakery"


@pytest.mark.parametrize("name", ["", "..", "a/b", ".hidden", "starter", "theta_final", "-x", "a b"])
def test_a_name_that_is_no_folder_of_its_own_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ExportError, match="--name is"):
        path_of(tmp_path, DAY, name)


def test_a_release_is_never_overwritten(tiny_folder: Path, tmp_path: Path) -> None:
    model = of_folder(tiny_folder, tmp_path / "r")
    (model / "note.txt").write_text("mine")
    with pytest.raises(ExportError, match="already exists and was not changed"):
        of_folder(tiny_folder, tmp_path / "r")
    with pytest.raises(ExportError, match="already exists and was not changed; choose another --name"):
        path_of(tmp_path, DAY, "r")
    assert (model / "note.txt").read_text() == "mine"


def test_links_are_replaced_with_writable_files(tiny_folder: Path, tmp_path: Path) -> None:
    linked = tmp_path / "linked"
    linked.mkdir()
    for path in tiny_folder.iterdir():
        (linked / path.name).symlink_to(path)
    model = of_folder(linked, tmp_path / "r")
    assert not any(path.is_symlink() for path in model.iterdir())


def test_an_incomplete_model_is_refused(tiny_folder: Path, tmp_path: Path) -> None:
    partial = Path(shutil.copytree(tiny_folder, tmp_path / "partial"))
    (partial / "config.json").unlink()
    (partial / "model.safetensors").unlink()
    with pytest.raises(ThetaError, match=r"lacks config.json, model.safetensors or pytorch_model.bin"):
        of_folder(partial, tmp_path / "models/r")
    assert not (tmp_path / "models").exists()


def test_nothing_is_left_of_a_release_that_lacks_a_part(project: Path) -> None:
    (project / "Datasets/prepared/train.jsonl").unlink()
    with pytest.raises(DataError, match=r"train.jsonl does not exist"):
        of_project(project, project / "models/r", "0123abc")
    assert not (project / "models/r").exists()
    assert all_in(project / "models") == []


def test_another_model_takes_along_what_lies_beside_it(project: Path) -> None:
    of_project(project, project / "models/a", "0123abc")
    of_folder(project / "models/a/theta_final", project / "models/b")
    assert names(project / "models/a") == names(project / "models/b")
    of_folder(project / "models/theta_final", project / "models/c")
    assert all(name.startswith("theta_final/") for name in names(project / "models/c"))
    assert [folder.name for folder in all_in(project / "models")] == ["a", "b", "c"]
    assert model_in(project / "models/a") == project / "models/a/theta_final"
    assert model_in(project / "models/theta_final") == project / "models/theta_final"


def test_what_is_made_from_a_release_is_not_written_into_it(project: Path) -> None:
    of_project(project, project / "models/a", "0123abc")
    assert beside(project / "models/a/theta_final", "gguf") == project / "models/a_gguf"
    assert beside(project / "models/theta_final", "gguf") == project / "models/gguf"


@pytest.mark.slow
def test_a_full_disk_is_one_line_and_leaves_nothing(tiny_folder: Path, tmp_path: Path) -> None:
    code = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (10**6, 10**6))\n"
        "import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "from theta.__main__ import main; main()"
    )
    arguments = ["release", "--model", str(tiny_folder), "--output", str(tmp_path / "out")]
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "cannot be written (File too large); make room on the disk and run the command again." in done.stderr
    assert not list(tmp_path.iterdir())
