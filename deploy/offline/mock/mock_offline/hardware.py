"""hw_info.log: the machine the build ran on. It shows the host, not the limits, as mock's does."""

import os
import shutil


def write(logs, place, user):
    """Writes processor, memory and storage."""
    usage = shutil.disk_usage(os.path.dirname(place.basedir) if os.path.isdir("/var/lib/mock") else "/")
    lines = ["CPU info:", *_chosen("/proc/cpuinfo", ("model name", "cpu cores")), f"processors: {os.cpu_count()}"]
    lines += ["", "Memory:", *_chosen("/proc/meminfo", ("MemTotal", "MemAvailable", "SwapTotal"))]
    lines += ["", "Storage:", f"{usage.total} bytes in all, {usage.free} free", ""]
    logs.write_file("hw_info.log", "\n".join(lines), user)


def _chosen(path, names):
    """The first line of each name; a file that is not there gives none."""
    found = {}
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            for line in file:
                name = line.partition(":")[0].strip()
                if name in names:
                    found.setdefault(name, line.strip())
    except OSError as error:
        return [f"{path} cannot be read: {error.strerror}"]
    return list(found.values())
