"""Sends a data set that was exported to the Hugging Face Hub."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from vp_ray import __version__
from vp_ray.errors import InputError, SettingsError, StorageError
from vp_ray.publish.job import CROISSANT, README


@dataclass(frozen=True, slots=True)
class Upload:
    """What would be sent, and where to."""

    folder: Path
    repository: str
    private: bool
    files: list[tuple[str, int]]
    """Path in the repository and bytes, sorted."""

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(size for _, size in self.files)

    @property
    def address(self) -> str:
        """Where it will be seen."""
        from huggingface_hub import constants

        return f"{constants.ENDPOINT}/datasets/{self.repository}"


def is_exported(folder: Path) -> bool:
    """Whether a folder holds a data set that `vp-ray export` wrote."""
    return (folder / README).is_file() and (folder / CROISSANT).is_file()


def plan_upload(folder: Path, repository: str, private: bool) -> Upload:
    """The upload of an exported data set, without any network.

    Raises `InputError` for a folder that holds none, and `SettingsError` for a name that the Hub would refuse.
    """
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(repository)
    except HFValidationError:
        repository = ""
    if repository.count("/") != 1:
        raise SettingsError("this is no name of a repository", "Give --push OWNER/NAME.", "--push")
    if not is_exported(folder):
        raise InputError("this folder holds no exported data set", "Run `vp-ray export` first.", str(folder))
    # The data set is what the export wrote: a stray file beside it stays here.
    paths = [folder / README, folder / CROISSANT, *folder.glob("*/*.parquet")]
    files = sorted((path.relative_to(folder).as_posix(), path.stat().st_size) for path in paths)
    return Upload(folder, repository, private, files)


def push(upload: Upload) -> str:
    """Uploads the files in one commit and gives the commit's address; Parquet files of an earlier one are replaced.

    Raises `SettingsError` without a token and `StorageError` when the Hub cannot be reached or refuses.
    """
    from huggingface_hub import HfApi, get_token

    if get_token() is None:
        raise SettingsError(
            "there is no token for the Hugging Face Hub", "Run `hf auth login`, or set HF_TOKEN.", "--push"
        )
    api = HfApi(library_name="vp-ray", library_version=__version__)
    try:
        api.create_repo(upload.repository, repo_type="dataset", private=upload.private, exist_ok=True)
        commit = api.upload_folder(
            repo_id=upload.repository,
            repo_type="dataset",
            folder_path=upload.folder,
            allow_patterns=[name for name, _ in upload.files],
            delete_patterns="*.parquet",
            commit_message=f"Data set written by vp-ray {__version__}",
        )
    except Exception as error:  # the client raises errors of its HTTP library, which this package does not import
        problem = " ".join(str(error).split()) or type(error).__name__
        raise StorageError(
            f"the upload failed ({problem})",
            "Check the token's rights and the network, then push again.",
            upload.address,
        ) from error
    return str(commit.commit_url)
