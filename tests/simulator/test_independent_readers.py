"""Readers from elsewhere agree with the physics: pysunspec2 on the SunSpec maps, Debian's mbpoll on any."""

import asyncio
import re
import shutil
from collections.abc import Callable
from typing import Any

import sunspec2.modbus.client as sunspec_client

from simulator.home import SimulatedHome
from simulator.modbus.faults import Fault, FaultKind
from tests.simulator.support import device_of, port_of, running


async def scanned[T](home: SimulatedHome, use: Callable[[Any], T], unit: int = 1) -> T:
    """Scan a unit with pysunspec2, which blocks, in a thread; return what `use` makes of the device."""

    def work() -> T:
        device = sunspec_client.SunSpecModbusClientDeviceTCP(
            slave_id=unit, ipaddr="127.0.0.1", ipport=port_of(home), timeout=5
        )
        try:
            device.scan()
            return use(device)
        finally:
            device.close()

    return await asyncio.to_thread(work)


def _numbers(device: Any) -> list[int]:
    return [model.model_id for model in device.model_list]


async def test_pysunspec2_reads_the_truth() -> None:
    async with running(device_of("sunspec", "der")) as home:
        home.set_environment(pv_w=8765, load_w=1234)
        home.advance(600)
        flows, truth = home.physics.flows, home.truth()
        energy = truth["energy_wh"]

        def check(device: Any) -> None:
            assert _numbers(device) == [
                1,
                103,
                120,
                121,
                122,
                123,
                124,
                160,
                203,
                701,
                702,
                703,
                704,
                713,
                802,
            ]
            model = {number: device.models[number][0] for number in _numbers(device)}
            assert model[1].Md.cvalue == "Simulated DER"
            assert model[1].SN.cvalue == home.devices[0].identity.serial
            assert model[103].W.cvalue == model[701].W.cvalue == flows.ac_out_w
            assert model[103].WH.cvalue == model[701].TotWhInj.cvalue == energy["ac_out"]
            assert model[701].TotWhAbs.cvalue == energy["ac_in"]
            assert model[103].DCW.cvalue == flows.pv_w - flows.charge_w
            assert model[120].WRtg.cvalue == model[702].WMaxRtg.cvalue == 10_000
            assert model[203].W.cvalue == flows.import_w - flows.export_w < 0
            assert model[203].TotWhImp.cvalue == energy["import"]
            assert model[203].TotWhExp.cvalue == energy["export"]
            modules = {module.IDStr.cvalue: module for module in model[160].module}
            assert list(modules) == ["MPPT 1", "MPPT 2", "StCha 3", "StDisCha 4"]
            assert modules["MPPT 1"].DCW.cvalue + modules["MPPT 2"].DCW.cvalue == flows.pv_w == 8765
            assert modules["MPPT 1"].DCWH.cvalue + modules["MPPT 2"].DCWH.cvalue == energy["pv"]
            assert modules["StCha 3"].DCW.cvalue == flows.charge_w > 0
            assert modules["StCha 3"].DCWH.cvalue == energy["charge"]
            assert modules["StDisCha 4"].DCWH.cvalue == energy["discharge"]
            soc = truth["battery"]["soc_permille"] / 10
            assert model[124].ChaState.cvalue == model[713].SoC.cvalue == model[802].SoC.cvalue == soc
            assert model[124].ChaSt.cvalue == model[802].ChaSt.cvalue == 4  # charging
            assert model[713].WHAvail.cvalue == truth["battery"]["stored_wh"]
            assert model[713].WHRtg.cvalue == model[802].WHRtg.cvalue == 10_240
            assert model[802].W.cvalue == -flows.charge_w
            assert model[122].ActWh.cvalue == energy["ac_out"]

        await scanned(home, check)


async def test_pysunspec2_commands_storage_by_model_124() -> None:
    async with running(device_of("sunspec", "basic")) as home:
        home.set_environment(pv_w=0, load_w=1000)

        def charge(device: Any) -> None:
            storage = device.models[124][0]
            storage.InOutWRte_RvrtTms.cvalue = 60
            storage.ChaGriSet.cvalue = 1
            storage.OutWRte.cvalue = -40
            storage.StorCtl_Mod.cvalue = 2
            storage.write()

        def state(device: Any) -> tuple[int, float]:
            storage = device.models[124][0]
            return storage.StorCtl_Mod.cvalue, device.models[802][0].W.cvalue

        await scanned(home, charge)
        home.advance(59)
        assert await scanned(home, state) == (2, -2000)
        home.advance(3)
        mode, watts = await scanned(home, state)
        assert (mode, home.physics.flows.charge_w) == (0, 0)
        assert watts == home.physics.flows.discharge_w > 1000

        def only_the_sun(device: Any) -> None:
            storage = device.models[124][0]
            storage.ChaGriSet.cvalue = 0
            storage.StorCtl_Mod.cvalue = 2
            storage.write()

        await scanned(home, only_the_sun)
        home.set_environment(pv_w=300)
        home.advance(2)
        assert (home.physics.flows.charge_w, home.physics.flows.import_w) == (300, 1000)

        def hold(device: Any) -> None:
            storage = device.models[124][0]
            storage.OutWRte.cvalue = 0
            storage.InWRte.cvalue = 0
            storage.StorCtl_Mod.cvalue = 3
            storage.write()

        await scanned(home, hold)
        home.advance(2)
        assert home.physics.flows.charge_w == home.physics.flows.discharge_w == 0


async def test_pysunspec2_limits_and_disconnects_by_model_123() -> None:
    async with running("sunspec") as home:
        home.set_environment(pv_w=8000, load_w=500)
        home.set_state_of_charge(1000)

        def limit(device: Any) -> None:
            controls = device.models[123][0]
            controls.WMaxLimPct.cvalue = 25
            controls.WMaxLimPct_RvrtTms.cvalue = 30
            controls.WMaxLim_Ena.cvalue = 1
            controls.write()

        await scanned(home, limit)
        home.advance(29)
        assert 2490 <= home.physics.flows.ac_out_w <= 2500
        home.advance(3)
        assert home.physics.flows.ac_out_w > 7000
        assert await scanned(home, lambda device: device.models[123][0].WMaxLim_Ena.cvalue) == 0

        def disconnect(device: Any) -> None:
            controls = device.models[123][0]
            controls.Conn_RvrtTms.cvalue = 10
            controls.Conn.cvalue = 0
            controls.write()

        await scanned(home, disconnect)
        home.advance(5)
        assert (home.physics.flows.ac_out_w, home.physics.flows.import_w) == (0, 500)
        home.advance(10)
        assert home.physics.flows.ac_out_w > 7000


async def test_pysunspec2_sets_power_by_model_704() -> None:
    async with running(device_of("sunspec", "der")) as home:
        home.set_environment(pv_w=0, load_w=1000)

        def generate(device: Any) -> None:
            control = device.models[704][0]
            control.WSetMod.cvalue = 1
            control.WSetRvrtTms.cvalue = 120
            control.WSetEnaRvrt.cvalue = 0
            control.WSet.cvalue = 3000
            control.WSetEna.cvalue = 1
            control.write()

        await scanned(home, generate)
        home.advance(20)
        assert (home.physics.flows.ac_out_w, home.physics.flows.export_w) == (3000, 2000)
        assert await scanned(home, lambda device: device.models[704][0].WSetRvrtRem.cvalue) == 100

        def absorb(device: Any) -> None:
            control = device.models[704][0]
            control.WSet.cvalue = -1500
            control.WSetEnaRvrt.cvalue = 1
            control.WSetRvrt.cvalue = 500
            control.write()

        await scanned(home, absorb)
        home.advance(2)
        assert home.physics.flows.ac_in_w == 1500
        home.advance(120)  # reverts to 500 W out, and stays there
        assert home.physics.flows.ac_out_w == 500

        def by_percent(device: Any) -> None:
            control = device.models[704][0]
            control.WSetMod.cvalue = 0
            control.WSetPct.cvalue = 12
            control.write()

        await scanned(home, by_percent)
        home.advance(2)
        assert home.physics.flows.ac_out_w == 1200

        def limit(device: Any) -> None:
            control = device.models[704][0]
            control.WSetEna.cvalue = 0
            control.WMaxLimPct.cvalue = 5
            control.WMaxLimPctRvrtTms.cvalue = 60
            control.WMaxLimPctEna.cvalue = 1
            control.write()

        await scanned(home, limit)
        home.advance(2)
        assert home.physics.flows.ac_out_w == 500
        home.advance(60)
        assert home.physics.flows.ac_out_w == 1000


async def test_pysunspec2_sees_maps_shift_and_come_back() -> None:
    async with running("fronius_gen24") as home:
        assert await scanned(home, _numbers) == [1, 103, 120, 121, 122, 123, 160, 124]
        number = home.inject("d0", Fault(FaultKind.LAYOUT_SHIFT))

        def floats(device: Any) -> tuple[list[int], float]:
            return _numbers(device), device.models[113][0].W.cvalue

        numbers, watts = await scanned(home, floats)
        assert numbers == [1, 113, 120, 121, 122, 123, 160, 124]
        assert watts == home.physics.flows.ac_out_w
        assert await scanned(home, _numbers, unit=200) == [1, 213]
        home.link("d0").clear(number)
        assert await scanned(home, _numbers) == [1, 103, 120, 121, 122, 123, 160, 124]
        assert await scanned(home, _numbers, unit=200) == [1, 203]


async def test_pysunspec2_reads_a_solaredge_meter_where_the_facts_say() -> None:
    async with running("solaredge") as home:
        home.set_environment(pv_w=9000, load_w=100)
        home.advance(2)

        def check(device: Any) -> None:
            meter = device.models[203][0]
            assert (meter.model_addr, meter.W.cvalue) == (40_188, home.physics.flows.export_w)

        await scanned(home, check)


async def _mbpoll(*arguments: str) -> tuple[int, str]:
    """Run Debian's mbpoll once and return its exit code and what it printed."""
    program = shutil.which("mbpoll")
    assert program, "mbpoll is missing: apt-get install mbpoll (script/test does it where it may)"
    process = await asyncio.create_subprocess_exec(
        program,
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        output, _ = await asyncio.wait_for(process.communicate(), 20)
    except TimeoutError:
        process.kill()
        raise
    return process.returncode or 0, output.decode()


async def test_mbpoll_reads_and_writes() -> None:
    async with running("goodwe_et") as home:
        home.set_environment(pv_w=0, load_w=1000)
        home.advance(1)
        where = ["-m", "tcp", "-p", str(port_of(home)), "-a", "247", "-0", "-1", "-q"]
        code, output = await _mbpoll(*where, "-t", "4", "-r", "37007", "-c", "2", "127.0.0.1")
        assert code == 0, output
        soc = home.truth()["battery"]["soc_permille"]
        assert [int(text) for text in re.findall(r"^\[\d+\]:\s+(\d+)", output, re.MULTILINE)] == [
            round(soc / 10),
            99,
        ]
        code, output = await _mbpoll(*where, "-t", "4:int", "-B", "-r", "35182", "-c", "1", "127.0.0.1")
        assert re.search(rf"^\[35182\]:\s+{home.physics.flows.discharge_w}$", output, re.MULTILINE), output
        code, output = await _mbpoll(*where, "-t", "4", "-r", "47512", "127.0.0.1", "2500")
        assert code == 0, output
        code, output = await _mbpoll(*where, "-t", "4", "-r", "47511", "127.0.0.1", "12")
        assert code == 0, output
        home.advance(2)
        assert home.physics.flows.discharge_w == 2500
        code, output = await _mbpoll(*where, "-t", "4", "-r", "100", "-c", "1", "127.0.0.1")
        assert "Illegal data address" in output


async def test_mbpoll_reads_inputs_and_floats() -> None:
    async with running("eastron_sdm630") as home:
        home.set_environment(pv_w=0, load_w=20_000)
        home.advance(1)
        where = ["-m", "tcp", "-p", str(port_of(home)), "-a", "1", "-0", "-1", "-q"]
        _, output = await _mbpoll(*where, "-t", "3:float", "-B", "-r", "52", "-c", "1", "127.0.0.1")
        found = re.search(r"^\[52\]:\s+([\d.e+]+)", output, re.MULTILINE)
        assert found, output
        assert float(found[1]) == home.physics.flows.import_w > 10_000
