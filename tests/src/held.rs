//! One thread of a process held still, as a fault in it or in the kernel would hold it: strace delays its next system
//! call. No signal can do that, SIGSTOP stops all of a process.
#![allow(clippy::unwrap_used)]

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

/// Let go when dropped.
pub struct Held(Child);

impl Held {
    /// Holds the thread called `name` of process `pid`. None where no process may be traced; in CI that is a failure.
    pub fn thread(pid: u32, name: &str) -> Option<Self> {
        let can =
            Command::new("strace").args(["-o", "/dev/null", "true"]).status().is_ok_and(|status| status.success());
        if !can {
            crate::skip("strace is not installed or may not trace (apt-get install strace)");
            return None;
        }
        let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap().map(|task| task.unwrap().path());
        let named =
            |task: &std::path::PathBuf| std::fs::read_to_string(task.join("comm")).is_ok_and(|own| own.trim() == name);
        let task = tasks.into_iter().find(named).unwrap_or_else(|| panic!("no thread {name} in {pid}"));
        let mut strace = Command::new("strace")
            .args(["-o", "/dev/null", "-e", "trace=all", "-e", "inject=all:delay_enter=3600s", "-p"])
            .arg(task.file_name().unwrap())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = BufReader::new(strace.stderr.take().unwrap()).lines().map(Result::unwrap);
        assert!(said.any(|line| line.contains("attached")), "strace does not hold {name}");
        Some(Self(strace))
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
