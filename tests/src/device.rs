//! A device in a folder: its site file, its model, what it leaves behind.
#![allow(clippy::unwrap_used)]

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use sha2::Digest;
use tempfile::TempDir;

use crate::{LIMIT, host_tools_ok, program, root, signal};

/// A device's folder.
pub struct Device {
    dir: TempDir,
}

/// A device that runs; killed when dropped.
pub struct Running {
    child: Child,
}

/// What a run left.
pub struct Ran {
    /// Exit status.
    pub code: i32,
    /// The JSON lines.
    pub lines: Vec<Value>,
    /// The log.
    pub stderr: String,
}

impl Device {
    /// With the tiny network (`tests/data/tiny`, converted by `host-tools`) and `more` in its site file.
    pub fn tiny(more: &str) -> Self {
        let device = Self { dir: tempfile::tempdir().unwrap() };
        device.convert("tiny", "f32");
        device.site(more);
        device
    }

    /// Converts a network of `tests/data` into this device's `model` folder.
    pub fn convert(&self, name: &str, weights: &str) -> PathBuf {
        let data = root().join("tests/data");
        let (onnx, manifest) = (data.join(name).join("model.onnx"), data.join("tiny/manifest-in.toml"));
        let text = |path: &Path| path.to_str().unwrap().to_string();
        let out = self.path("model");
        host_tools_ok(&[
            "convert".to_string(),
            "--onnx".into(),
            text(&onnx),
            "--manifest".into(),
            text(&manifest),
            "--out".into(),
            text(&out),
            "--weights".into(),
            weights.into(),
        ]);
        out
    }

    /// Takes a network of `tests/data` as it is, with the tiny one's manifest: `convert` would refuse one that is broken.
    pub fn onnx(&self, name: &str) {
        let data = root().join("tests/data");
        let weights = std::fs::read(data.join(name).join("model.onnx")).unwrap();
        let sha256: String = sha2::Sha256::digest(&weights).iter().map(|byte| format!("{byte:02x}")).collect();
        let text = std::fs::read_to_string(data.join("tiny/manifest-in.toml")).unwrap();
        let text = text.replace("[front_end]", &format!("file = \"model.onnx\"\nsha256 = \"{sha256}\"\n[front_end]"));
        std::fs::write(self.path("model/model.onnx"), weights).unwrap();
        std::fs::write(self.path("model/manifest.toml"), text).unwrap();
    }

    /// Writes the site file: folders of this device, then `more`. `more` may go on inside `[events]`.
    pub fn site(&self, more: &str) {
        let dir = self.dir.path().display();
        let text = format!(
            "device_id = \"test-1\"\nzone = \"Hall\"\n[state]\ndir = \"{dir}/state\"\n[events]\ndir = \"{dir}/events\"\n{more}\n"
        );
        std::fs::write(self.path("site.toml"), text).unwrap();
    }

    /// A path in its folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// `screamd` with site file and model named, ready to be given more.
    pub fn command(&self, verb: &str) -> Command {
        let mut command = Command::new(program("screamd"));
        command.current_dir(root()).arg(verb).arg("--config").arg(self.path("site.toml"));
        command.arg("--model").arg(self.path("model"));
        command
    }

    /// Runs a recording of `samples` as fast as it goes.
    pub fn hear(&self, wav: &[u8]) -> Ran {
        let path = self.path("sound.wav");
        std::fs::write(&path, wav).unwrap();
        self.hear_file(&path)
    }

    /// Runs the recording at `path` as fast as it goes.
    pub fn hear_file(&self, path: &Path) -> Ran {
        let mut command = self.command("run");
        command.arg("--wav").arg(path).args(["--speed", "max", "--json"]);
        Ran::of(&command.output().unwrap())
    }

    /// The same through standard input.
    pub fn hear_stdin(&self, wav: &[u8]) -> Ran {
        let mut child = self.spawn(&["--wav", "-", "--speed", "max", "--json"]);
        child.stdin.take().unwrap().write_all(wav).unwrap();
        Ran::of(&child.wait_with_output().unwrap())
    }

    /// `screamd run` in the background, all three streams piped.
    pub fn spawn(&self, args: &[&str]) -> Child {
        let mut command = self.command("run");
        command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().unwrap()
    }

    /// Listens to `samples` at the pace of a microphone, 16 kHz.
    pub fn listens_to(&self, samples: &[i16]) -> Running {
        self.listens_to_with(samples, &[])
    }

    /// The same with more arguments.
    pub fn listens_to_with(&self, samples: &[i16], args: &[&str]) -> Running {
        let path = self.path("sound.wav");
        crate::sound::write_wav(&path, samples, 16_000);
        let mut command = self.command("run");
        command.arg("--wav").arg(path).args(["--speed", "realtime", "--json"]).args(args).stdin(Stdio::null());
        // Files: a pipe that nobody reads would hold the device up.
        let file = |name: &str| std::fs::File::options().create(true).append(true).open(self.path(name)).unwrap();
        Running { child: command.stdout(file("stdout")).stderr(file("stderr")).spawn().unwrap() }
    }

    /// The log of all [`Device::listens_to`] so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.path("stderr")).unwrap_or_default()
    }

    /// Waits until that log holds `text`.
    #[track_caller]
    pub fn says(&self, text: &str) {
        let until = Instant::now() + LIMIT;
        while !self.log().contains(text) {
            assert!(Instant::now() < until, "no `{text}` in {}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits for an incident's first file: an alarm has started.
    #[track_caller]
    pub fn keeps_an_event(&self) {
        let until = Instant::now() + LIMIT;
        while self.events().is_empty() {
            assert!(Instant::now() < until, "no event");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Names of the files in the events folder, sorted; those that begin with a dot are not events.
    pub fn events(&self) -> Vec<PathBuf> {
        let Ok(entries) = std::fs::read_dir(self.path("events")) else { return Vec::new() };
        let mut found: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
        found.retain(|path| !path.file_name().unwrap().to_string_lossy().starts_with('.'));
        found.sort();
        found
    }
}

impl Running {
    /// Its process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// SIGTERM, and its exit status.
    pub fn stop(self) -> Option<i32> {
        signal(self.child.id(), "-TERM");
        self.wait()
    }

    /// Its exit status, once it has ended; none where a signal has ended it.
    pub fn wait(mut self) -> Option<i32> {
        self.child.wait().unwrap().code()
    }

    /// SIGKILL.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Ran {
    /// Reads what a run printed; every line of standard output must be a JSON object.
    pub fn of(output: &Output) -> Self {
        let stdout = String::from_utf8(output.stdout.clone()).unwrap();
        let lines = stdout
            .lines()
            .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
            .inspect(|line: &Value| assert!(line.is_object()))
            .collect();
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        Self { code: output.status.code().unwrap_or(-1), lines, stderr }
    }

    /// The lines of one type.
    pub fn of_type(&self, kind: &str) -> Vec<&Value> {
        self.lines.iter().filter(|line| line["type"] == kind).collect()
    }

    /// `start` or `end` of each alarm with its time.
    pub fn alarms(&self) -> Vec<(&str, f64)> {
        self.of_type("alarm")
            .iter()
            .map(|line| (line["state"].as_str().unwrap(), line["t_s"].as_f64().unwrap()))
            .collect()
    }
}
