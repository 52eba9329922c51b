"""Run another script and say what energy it took and what CO2 that stands for, as codecarbon estimates both.

    python scripts/measure_energy.py --country JPN train_vit.py --data-dir dataset

The script runs in this process, and only its share of the machine is counted. codecarbon (offline; `pip install
codecarbon`) reads the processor's own counters where the system lets it, else it multiplies the processor's rated power
by how busy it was; CO2 is the energy times the country's average. --output keeps one line of JSON a run.
"""

import argparse
import dataclasses
import importlib.util
import json
import runpy
import sys
from pathlib import Path

from atomic_file import write_text
from command_line import InputError, run

SCRIPTS = Path(__file__).resolve().parent
KEPT = (
    "timestamp",
    "duration",
    "energy_consumed",
    "cpu_energy",
    "gpu_energy",
    "ram_energy",
    "emissions",
    "country_name",
    "cpu_model",
    "cpu_count",
    "gpu_model",
    "codecarbon_version",
)


def measured(script: Path, words: list[str], country: str, every: float) -> tuple[dict, int | str | None]:
    """What codecarbon found (energies in kWh, emissions in kg of CO2 equivalents, duration in s), and how it ended."""
    from codecarbon import OfflineEmissionsTracker  # optional

    tracker = OfflineEmissionsTracker(
        country_iso_code=country,
        tracking_mode="process",
        measure_power_secs=every,
        save_to_file=False,
        allow_multiple_runs=True,
        log_level="critical",
    )
    before, ended = sys.argv, None
    tracker.start()
    try:
        sys.argv = [str(script), *words]
        runpy.run_path(str(script), run_name="__main__")
    except SystemExit as end:
        ended = end.code
    finally:
        sys.argv = before
        tracker.stop()
    data = dataclasses.asdict(tracker.final_emissions_data)
    return {name: data[name] for name in KEPT}, ended


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--country", required=True, metavar="ISO", help="whose electricity it is: JPN, DEU, USA, …")
    parser.add_argument("--output", type=Path, metavar="FILE", help="a line of JSON is added to this file")
    parser.add_argument("--every", type=float, default=15, metavar="SECONDS", help="between two looks (default 15)")
    parser.add_argument("script", help="a script of this folder, such as train_vit.py")
    parser.add_argument("words", nargs=argparse.REMAINDER, metavar="...", help="what that script is told")
    arguments = parser.parse_args()
    arguments.country = arguments.country.upper()
    if len(arguments.country) != 3 or not arguments.country.isalpha():
        parser.error("--country takes the three letters of ISO 3166, such as JPN")
    if not arguments.every > 0:
        parser.error("--every must be greater than 0")
    return arguments


def main() -> None:
    arguments = parse_arguments()
    script = SCRIPTS / Path(arguments.script).name
    if not script.is_file() or script == Path(__file__).resolve():
        raise InputError(f"{arguments.script} is no script of {SCRIPTS} that could be measured")
    if not importlib.util.find_spec("codecarbon"):
        raise InputError("measure_energy.py needs the package codecarbon: pip install codecarbon")
    import pycountry  # comes with codecarbon

    if not pycountry.countries.get(alpha_3=arguments.country):
        raise InputError(f"{arguments.country} is no country: --country takes the three letters of ISO 3166")
    found, ended = measured(script, arguments.words, arguments.country, arguments.every)
    found = {"script": script.name, "words": arguments.words, "exit_code": ended or 0, **found}
    print(
        f"energy: {1000 * found['energy_consumed']:.2f} Wh in {found['duration']:,.0f} s, "
        f"{1000 * found['emissions']:.2f} g CO2 ({found['country_name']}'s electricity)"
    )
    if arguments.output:
        arguments.output.parent.mkdir(parents=True, exist_ok=True)
        lines = arguments.output.read_text(encoding="utf-8") if arguments.output.is_file() else ""
        write_text(arguments.output, lines + json.dumps(found, ensure_ascii=False) + "\n")
    sys.exit(ended)


if __name__ == "__main__":
    run(main)
