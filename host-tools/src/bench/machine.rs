//! What a figure was measured on, and the memory of this process.

use anyhow::Context;
use serde::{Deserialize, Serialize};

/// The machine, as the system names its parts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// Processor or board.
    pub processor: String,
    /// Architecture.
    pub arch: String,
    /// Cores that this process may use.
    pub cores: usize,
    /// Memory, MiB.
    pub memory_mib: u64,
    /// Kernel's release.
    pub kernel: String,
    /// Frequency governor of the first core; empty where the system has none.
    pub governor: String,
}

impl Machine {
    /// This one.
    pub fn here() -> Self {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let cpuinfo = read("/proc/cpuinfo");
        let named = |key: &str| {
            let line = cpuinfo.lines().find(|line| line.starts_with(key))?;
            Some(line.split_once(':')?.1.trim().to_string())
        };
        // A board says what it is in its device tree; /proc/cpuinfo of aarch64 has but numbers.
        let board = read("/proc/device-tree/model").trim_end_matches('\0').to_string();
        let processor = if board.is_empty() { named("model name").or_else(|| named("Model")) } else { Some(board) };
        Self {
            processor: processor.unwrap_or_else(|| "unknown processor".into()),
            arch: std::env::consts::ARCH.into(),
            cores: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            memory_mib: kib(&read("/proc/meminfo"), "MemTotal:").unwrap_or(0.0) as u64 / 1024,
            kernel: read("/proc/sys/kernel/osrelease").trim().to_string(),
            governor: read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor").trim().to_string(),
        }
    }
}

impl std::fmt::Display for Machine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { processor, arch, cores, memory_mib, kernel, governor } = self;
        write!(f, "{processor}, {cores} core(s), {arch}, {memory_mib} MiB, Linux {kernel}")?;
        if governor.is_empty() { Ok(()) } else { write!(f, ", governor {governor}") }
    }
}

/// Memory resident now, and the most that ever was, MiB.
pub fn resident_mib() -> anyhow::Result<(f64, f64)> {
    let status = std::fs::read_to_string("/proc/self/status").context("/proc/self/status")?;
    let of = |key| kib(&status, key).with_context(|| format!("/proc/self/status: no {key}"));
    let now = of("VmRSS:")? / 1024.0;
    // qemu-user has no VmHWM.
    Ok((now, of("VmHWM:").map_or(now, |most| most / 1024.0)))
}

fn kib(text: &str, key: &str) -> Option<f64> {
    text.lines().find_map(|line| line.strip_prefix(key))?.split_whitespace().next()?.parse().ok()
}

/// Keeps this process on the first `count` of the cores that it may use; threads started later inherit that.
pub fn pin(count: usize) -> anyhow::Result<()> {
    use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
    let allowed = sched_getaffinity(None).context("asking for the cores of this process")?;
    let mut chosen = CpuSet::new();
    let cores: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|core| allowed.is_set(*core)).take(count).collect();
    anyhow::ensure!(cores.len() == count, "--pin: {count} threads, but {} core(s) to pin them to", cores.len());
    cores.iter().for_each(|core| chosen.set(*core));
    sched_setaffinity(None, &chosen).context("pinning this process to cores")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_has_memory_and_a_name() {
        let machine = Machine::here();
        assert!(machine.memory_mib > 0 && machine.cores > 0 && !machine.kernel.is_empty(), "{machine}");
        let (now, most) = resident_mib().unwrap();
        assert!(now > 1.0 && most >= now * 0.9, "{now} {most}");
    }
}
