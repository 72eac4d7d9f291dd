//! A card for tests of what comes after a failure: it gives so many frames, then none, or fails whenever it is asked.

use std::time::Duration;

use rustix::io::Errno;

use super::session::Card;

/// Time passes where it waits or rests.
#[derive(Default)]
pub struct FakeCard {
    pub now: Duration,
    /// Still to be given, one at a time.
    pub frames: u32,
    /// Each wait and read is an xrun.
    pub fails: bool,
    /// Each wait and read finds it suspended, and each resumption succeeds.
    pub flaps: bool,
    pub restarts: u32,
    /// Each restart takes so long.
    pub restart_takes: Duration,
}

impl FakeCard {
    fn asked(&self) -> Result<(), Errno> {
        match (self.fails, self.flaps) {
            (true, _) => Err(Errno::PIPE),
            (_, true) => Err(Errno::STRPIPE),
            _ => Ok(()),
        }
    }
}

impl Card for FakeCard {
    fn wait(&mut self, limit: Duration) -> Result<bool, Errno> {
        self.asked()?;
        self.now += limit;
        Ok(self.frames > 0)
    }

    fn read(&mut self, _: &mut [u8]) -> Result<usize, Errno> {
        self.asked()?;
        self.frames -= 1;
        Ok(1)
    }

    fn waiting(&mut self) -> usize {
        0
    }

    fn restart(&mut self) -> Result<(), Errno> {
        self.restarts += 1;
        self.now += self.restart_takes;
        Ok(())
    }

    fn resume(&mut self) -> Result<(), Errno> {
        Ok(())
    }

    fn now(&self) -> Duration {
        self.now
    }

    fn rest(&mut self, time: Duration) {
        self.now += time;
    }
}
