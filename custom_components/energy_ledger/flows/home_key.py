"""Steps: the home's key, made new, restored from its code or file, or one that is kept here already."""

from typing import Any

import probatio as vol
from homeassistant.components.file_upload import process_uploaded_file
from homeassistant.config_entries import ConfigFlowResult
from homeassistant.helpers.selector import (
    FileSelector,
    FileSelectorConfig,
    SelectOptionDict,
    SelectSelector,
    SelectSelectorConfig,
    TextSelector,
    TextSelectorConfig,
    TextSelectorType,
)

from ledger_core.keys import AddressError, KeyFile, KeyFileError, SoftwareSigner, parse_seed_text, seed_text

from ..const import CONF_HOME, DOMAIN
from ..key_store import async_key_store
from .base import FlowBase

CONF_CODE = "recovery_code"
CONF_FILE = "key_file"
CONF_KEPT = "kept"
CONF_PASSPHRASE = "passphrase"  # noqa: S105  (a field's name)
_GROUP = 4


def grouped(code: str) -> str:
    """Return a recovery code in groups of four, as people copy it."""
    return " ".join(code[at : at + _GROUP] for at in range(0, len(code), _GROUP))


def parse_code(text: str) -> SoftwareSigner:
    """Return the key of a recovery code, with or without blanks and dashes; raises AddressError."""
    return SoftwareSigner(parse_seed_text("".join(text.replace("-", "").split())))


def _mistake(error: AddressError) -> tuple[str, dict[str, str]]:
    """Return the form's error for a code that is none, and its placeholders."""
    key = error.code.replace("address_", "code_")
    positions = ", ".join(map(str, error.details.get("positions", ())))
    if key == "code_checksum" and positions:
        key = "code_checksum_at"
    placeholders = {name: str(value) for name, value in error.details.items()}
    return key, {**placeholders, "position": positions}


def _file_mistake(error: KeyFileError) -> dict[str, str]:
    """Return the form's error for a key file that can't be opened."""
    if error.code in ("key_file_passphrase_needed", "key_file_passphrase_wrong", "key_file_memory"):
        return {CONF_PASSPHRASE: error.code}
    return {CONF_FILE: error.code if error.code == "key_file_version" else "key_file_damaged"}


class HomeKeySteps(FlowBase):
    """How the home gets its key; leads to `prepare`."""

    _key_file: KeyFile | None = None
    """What was uploaded last, until its passphrase opens it."""

    async def async_step_home_key(self, _: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Ask where the key comes from."""
        options = ["new_key", "restore_key", "restore_file"]
        if await self._unused_keys():
            options.append("kept_key")
        return self.async_show_menu(step_id="home_key", menu_options=options)

    async def async_step_new_key(self, user_input: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Make a key, and show its recovery code once."""
        errors: dict[str, str] = {}
        if self.signer is None:
            self.signer = SoftwareSigner.generate()
        elif user_input is not None:
            if user_input[CONF_KEPT]:
                return await self.async_step_prepare()
            errors[CONF_KEPT] = "code_not_kept"
        return self.async_show_form(
            step_id="new_key",
            data_schema=vol.Schema({vol.Required(CONF_KEPT, default=False): bool}),
            errors=errors,
            description_placeholders={"code": grouped(seed_text(self.signer.export_seed()))},
        )

    async def async_step_restore_key(self, user_input: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Restore a key from its recovery code."""
        errors: dict[str, str] = {}
        placeholders: dict[str, str] = {}
        if user_input is not None:
            try:
                self.signer = parse_code(user_input[CONF_CODE])
            except AddressError as error:
                errors[CONF_CODE], placeholders = _mistake(error)
            else:
                return await self.async_step_prepare()
        schema = vol.Schema(
            {vol.Required(CONF_CODE): TextSelector(TextSelectorConfig(type=TextSelectorType.PASSWORD))}
        )
        return self.async_show_form(
            step_id="restore_key",
            data_schema=self.add_suggested_values_to_schema(schema, user_input),
            errors=errors,
            description_placeholders=placeholders,
        )

    async def async_step_restore_file(self, user_input: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Restore a key from a key file, as the command line writes it."""
        errors: dict[str, str] = {}
        if user_input is not None:
            try:
                self.signer = await self.hass.async_add_executor_job(
                    self._open_file, user_input.get(CONF_FILE), user_input.get(CONF_PASSPHRASE)
                )
            except KeyFileError as error:
                errors = _file_mistake(error)
            else:
                return await self.async_step_prepare()
        # A file that was read is kept while its passphrase is asked for again.
        file = vol.Required(CONF_FILE) if self._key_file is None else vol.Optional(CONF_FILE)
        schema = vol.Schema(
            {
                file: FileSelector(FileSelectorConfig(accept="*/*")),
                vol.Optional(CONF_PASSPHRASE): TextSelector(
                    TextSelectorConfig(type=TextSelectorType.PASSWORD)
                ),
            }
        )
        return self.async_show_form(step_id="restore_file", data_schema=schema, errors=errors)

    def _open_file(self, upload: str | None, passphrase: str | None) -> SoftwareSigner:
        """Return the key of an upload, or of the one before; raises KeyFileError. Not for the event loop."""
        if upload is not None:
            self._key_file = None
            with process_uploaded_file(self.hass, upload) as path:
                path.chmod(0o600)  # what a key file on the disk must be
                self._key_file = KeyFile.read(path)
        if self._key_file is None:
            raise KeyFileError("key_file_missing", "no key file was uploaded")
        return self._key_file.signer(passphrase)

    async def async_step_kept_key(self, user_input: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Take a key that an entry had that was removed."""
        if user_input is not None:
            self.signer = (await async_key_store(self.hass)).get(user_input[CONF_HOME]).signer
            return await self.async_step_prepare()
        options = [SelectOptionDict(value=home, label=home) for home in await self._unused_keys()]
        schema = vol.Schema({vol.Required(CONF_HOME): SelectSelector(SelectSelectorConfig(options=options))})
        return self.async_show_form(step_id="kept_key", data_schema=schema)

    async def _unused_keys(self) -> list[str]:
        used = {entry.data.get(CONF_HOME) for entry in self.hass.config_entries.async_entries(DOMAIN)}
        return [home for home in (await async_key_store(self.hass)).homes if home not in used]
