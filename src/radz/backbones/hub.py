"""Where a backbone lies: a local folder, or an id on the Hugging Face hub with its copy in the local cache."""

from __future__ import annotations

import re
from pathlib import Path

from data_modules.errors import InputError

HUB_ID = re.compile(r"(?P<repo>[\w-][\w.-]*/[\w-][\w.-]*)(@(?P<revision>[\w./-]+))?")
WANTED = ["*.safetensors", "*.json", "*.jinja", "tokenizer.model", "merges.txt", "vocab.txt"]
"""weights, settings and tokenizer; neither code nor pickles are fetched"""


def resolve(path: str, key: str = "backbone.path") -> Path:
    """The folder that `key` names: a local folder, or the snapshot of a hub id `org/name[@revision]`.

    huggingface_hub reads HF_HOME (where copies are kept), HF_HUB_OFFLINE and HF_TOKEN.

    Raises:
        InputError: a hub id that is neither in the cache nor to be had.
    """
    folder = Path(path).expanduser()
    match = HUB_ID.fullmatch(path)
    if folder.exists() or match is None:
        return folder
    from huggingface_hub import snapshot_download
    from huggingface_hub.constants import HF_HUB_OFFLINE
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    repo, revision = match["repo"], match["revision"]
    try:
        # Said again: offline, huggingface_hub 1.33 asks for the list of files of a revision that is in the cache.
        return Path(snapshot_download(repo, revision=revision, allow_patterns=WANTED, local_files_only=HF_HUB_OFFLINE))
    except GatedRepoError:
        cause = "the hub gives it to accounts with access only; accept its terms there and set HF_TOKEN"
    except LocalEntryNotFoundError:
        cause = "no such folder, and as a hub id it is not in the cache (HF_HOME) and cannot be fetched offline"
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        cause = f"no such folder, and the hub refuses it as an id ({type(error).__name__}); check the name"
    raise InputError(f"{key}: {path}: {cause}") from None
