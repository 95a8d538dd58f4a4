"""Publishing a folder on the Hugging Face Hub, only when asked, and asked about before the work."""

from pathlib import Path
from typing import Any

from dat_runtime.errors import ConfigError


def demand_access(name: str) -> None:
    """Refuse what could not be published in the end: offline, no token, or no such name.

    Raises:
        ConfigError: says what is missing.
    """
    from huggingface_hub import constants
    from huggingface_hub.errors import HFValidationError, OfflineModeIsEnabled
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(name)
    except HFValidationError as error:
        raise ConfigError(f"--push-to-hub {name}: {error}") from None
    if name.count("/") != 1:
        raise ConfigError(f"--push-to-hub {name}: expected OWNER/NAME")
    if constants.is_offline_mode():
        raise ConfigError(
            f"--push-to-hub {name}: HF_HUB_OFFLINE is set, so nothing can be published; leave the "
            "option out, or unset it"
        )
    try:
        _api().whoami()
    except (OSError, ValueError, OfflineModeIsEnabled) as error:
        words = " ".join(str(error).split())
        raise ConfigError(
            f"--push-to-hub {name}: the hub does not let this account in ({words:.200}): "
            "hf auth login"
        ) from None


def push(folder: Path, name: str) -> str:
    """Publish the folder as a private model; its address.

    Raises:
        ConfigError: the hub refused it.
    """
    api = _api()
    try:
        api.create_repo(name, private=True, exist_ok=True)
        api.upload_folder(repo_id=name, folder_path=folder, ignore_patterns=[".*"])
    except (OSError, ValueError) as error:
        words = " ".join(str(error).split())
        raise ConfigError(
            f"{folder} is made, but {name} was not published ({words:.300})"
        ) from None
    return f"{api.endpoint}/{name}"


def _api() -> Any:
    from huggingface_hub import HfApi

    return HfApi()
