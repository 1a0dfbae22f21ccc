"""Commands of a profile, from YAML nodes."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from .load_points import load_condition
from .model import (
    HOLD_S,
    PLACEHOLDERS,
    POWER_W,
    REGISTERS,
    SAVED,
    Amount,
    BlockField,
    BlockStep,
    Command,
    CommandName,
    Meaning,
    RegisterPoint,
    Rounding,
    SettingStep,
    SunSpecPoint,
    ValueType,
    WordOrder,
)
from .reader import Keys, choose, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .load_points import Defaults, PointTables
    from .model import Step
    from .tree import Node

_RELEASE: Final = "release"
_AMOUNT: Final = ("to", "factor", "per", "offset", "min", "max", "default", "round")
_SETTING_STEP: Final = ("set", *_AMOUNT, "verify", "mask", "save", "renew", "wait_s")
_BLOCK_STEP: Final = ("block", "word_order", "fields", "renew", "wait_s")
_NAME: Final = re.compile(r"(-?)\{([a-z][a-z0-9_]*)\}")
_LARGEST_WRITE: Final = 123  # registers in one request (Modbus Application Protocol V1.1b3, section 6.12)


@dataclass(frozen=True, slots=True)
class _Context:
    """What a step may name."""

    tables: PointTables
    defaults: Defaults

    def names(self) -> set[str]:
        """Points and settings that an amount may use."""
        tables = self.tables
        return {*tables.points, *tables.derived, *tables.settings}


def load_commands(
    node: Node | None, tables: PointTables, defaults: Defaults
) -> Mapping[CommandName, Command]:
    """Read the `commands` section; `release` there serves every command that has none of its own."""
    if node is None:
        return MappingProxyType({})
    keys = Keys(node, (*(name.value for name in CommandName), _RELEASE))
    context = _Context(tables, defaults)
    shared = keys.get(_RELEASE)
    commands: dict[CommandName, Command] = {}
    for name in CommandName:
        child = keys.get(name)
        if child is not None:
            commands[name] = _load_command(name, child, shared, context)
    if not commands:
        raise node.error(f"has no command; right would be one of {', '.join(CommandName)}")
    return MappingProxyType(commands)


def _load_command(name: CommandName, node: Node, shared: Node | None, context: _Context) -> Command:
    keys = Keys(node, ("steps", _RELEASE, "renew_s", "hold_s", "power", "require"))
    release = keys.get(_RELEASE) or shared
    if release is None:
        raise node.error("can't be taken back; right would be a release here or in commands.release")
    steps = _load_steps(keys.need("steps"), context)
    released = _load_steps(release, context)
    _check_release(released, release)
    power = Keys(keys.need("power"), ("min", "max")) if "power" in keys else None
    renew = keys.seconds("renew_s", 0) or None
    hold = keys.seconds("hold_s", 0) or None
    if hold is not None and (renew is None or renew > hold / 2):
        raise keys.error("renew_s", f"right would be at most half of hold_s, {hold / 2:g} s")
    command = Command(
        name=name,
        steps=steps,
        release=released,
        renew_s=renew,
        hold_s=hold,
        power_minimum=_bound(power, "min", context) if power else None,
        power_maximum=_bound(power, "max", context) if power else None,
        preconditions=tuple(
            load_condition(item) for item in (keys.need("require").sequence() if "require" in keys else ())
        ),
    )
    _check_command(command, keys)
    return command


def _check_command(command: Command, keys: Keys) -> None:
    """See that placeholders have what they stand for."""
    needed = {name for step in (*command.steps, *command.release) for name in _needs(step)}
    if HOLD_S in needed and command.hold_s is None:
        raise keys.error("hold_s", f"{{{HOLD_S}}} is written, but hold_s is not given")
    if command.takes_power and command.power_maximum is None:
        raise keys.error("power", "is missing; right would be power: {max: …}, a rating point or watts")
    saved = {step.setting for step in command.steps if isinstance(step, SettingStep) and step.save}
    for step in command.release:
        if not isinstance(step, SettingStep) or step.amount.source != SAVED:
            continue
        if step.setting not in saved and step.amount.default is None:
            problem = f'releases "{step.setting}" to what was saved, but no step saves it (save: true)'
            raise keys.error("steps", problem)


def _check_release(steps: tuple[Step, ...], node: Node) -> None:
    for step in steps:
        if POWER_W in _needs(step):
            raise node.error(f"a release knows no {{{POWER_W}}}")


def _needs(step: Step) -> frozenset[str]:
    if isinstance(step, SettingStep):
        return step.amount.needs()
    return frozenset(name for part in step.fields for name in part.amount.needs())


def _load_steps(node: Node, context: _Context) -> tuple[Step, ...]:
    steps: tuple[Step, ...] = tuple(
        _block(item, context) if "block" in item.mapping() else _setting(item, context)
        for item in node.sequence()
    )
    if not steps:
        raise node.error("is empty; right would be at least one step")
    return steps


def _setting(node: Node, context: _Context) -> SettingStep:
    keys = Keys(node, _SETTING_STEP)
    name = keys.need("set").text()
    settings = context.tables.settings
    if name not in settings:
        raise keys.error("set", f'no setting "{name}"; {did_you_mean(name, settings)}')
    setting = settings[name]
    mask = keys.maybe_integer("mask", 1, (1 << 32) - 1)
    if mask is not None and isinstance(setting, RegisterPoint):
        fits = setting.type in (ValueType.U16, ValueType.U32) and not mask >> 16 * setting.length
        if not fits:
            raise keys.error("mask", f"does not fit {name}, which is {setting.type}")
    return SettingStep(
        setting=name,
        amount=_amount(keys, context, setting),
        verify=keys.boolean("verify"),
        mask=mask,
        save=keys.boolean("save"),
        renew=keys.boolean("renew", default=True),
        wait=keys.seconds("wait_s", 0.0, 60),
    )


def _block(node: Node, context: _Context) -> BlockStep:
    keys = Keys(node, _BLOCK_STEP)
    fields: list[BlockField] = []
    for item in keys.need("fields").sequence():
        part = Keys(item, ("type", "scale", *_AMOUNT))
        kind = choose(part.need("type"), ValueType)
        if kind not in REGISTERS or kind is ValueType.BIT:
            raise part.error("type", f"{kind} can't be part of a block; right would be a number")
        scale = part.number("scale", Fraction(1))
        if scale == 0:
            raise part.error("scale", "is 0, which no value can be divided by")
        fields.append(BlockField(type=kind, amount=_amount(part, context, None), scale=scale))
    length = sum(REGISTERS[part.type] for part in fields)
    if not 0 < length <= _LARGEST_WRITE:
        raise keys.error("fields", f"take {length} registers; right would be 1 to {_LARGEST_WRITE}")
    return BlockStep(
        address=keys.need("block").integer(0, 65536 - length),
        fields=tuple(fields),
        word_order=keys.choice("word_order", WordOrder, context.defaults.word_order),
        renew=keys.boolean("renew", default=True),
        wait=keys.seconds("wait_s", 0.0, 60),
    )


def _amount(keys: Keys, context: _Context, setting: RegisterPoint | SunSpecPoint | None) -> Amount:
    node = keys.need("to")
    rounding = keys.choice("round", Rounding, Rounding.DOWN)
    if node.is_number():
        _no_arithmetic(keys)
        return Amount(literal=node.number(), rounding=rounding)
    match = _NAME.fullmatch(node.text())
    if match is None:
        _no_arithmetic(keys)
        return Amount(literal=Fraction(_code(node, setting)), rounding=rounding)
    source = match[2]
    if source not in PLACEHOLDERS and source not in context.names():
        raise node.error(f'"{source}" is no point; {did_you_mean(source, {*PLACEHOLDERS, *context.names()})}')
    default = keys.get("default")
    return Amount(
        source=source,
        factor=keys.number("factor", Fraction(1)) * (-1 if match[1] else 1),
        per=_point_name(keys, "per", context),
        offset=_bound(keys, "offset", context) or Fraction(0),
        minimum=_bound(keys, "min", context),
        maximum=_bound(keys, "max", context),
        default=_literal(default, setting) if default is not None else None,
        rounding=rounding,
    )


def _no_arithmetic(keys: Keys) -> None:
    for name in ("factor", "per", "offset", "min", "max", "default"):
        if name in keys:
            raise keys.error(name, "has no effect on a fixed value; right would be to write the value wanted")


def _literal(node: Node, setting: RegisterPoint | SunSpecPoint | None) -> Fraction:
    return node.number() if node.is_number() else Fraction(_code(node, setting))


def _code(node: Node, setting: RegisterPoint | SunSpecPoint | None) -> int:
    """Return the number of a label of the setting."""
    word = node.text()
    if isinstance(setting, SunSpecPoint):
        raise node.error(f'"{word}" is no number; right would be a number or {{a name}}')
    if setting is None or setting.meaning is not Meaning.ENUM:
        raise node.error(f'"{word}" is neither a number nor {{a name}}, and there are no values to name')
    try:
        return setting.code(word)
    except LookupError:
        known = setting.labels.values()
        raise node.error(f'"{word}" is no value of {setting.name}; {did_you_mean(word, known)}') from None


def _point_name(keys: Keys, key: str, context: _Context) -> str | None:
    node = keys.get(key)
    if node is None:
        return None
    match = _NAME.fullmatch(node.text())
    name = match[2] if match and not match[1] else node.text()
    if name not in context.names():
        raise node.error(f'"{name}" is no point; {did_you_mean(name, context.names())}')
    return name


def _bound(keys: Keys, key: str, context: _Context) -> Fraction | str | None:
    node = keys.get(key)
    if node is None:
        return None
    return node.number() if node.is_number() else _point_name(keys, key, context)
