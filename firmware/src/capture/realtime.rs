//! The capture thread before all others, its memory never paged out: where the system allows it.

use std::io;

/// Above every ordinary thread, below what a kernel's own real-time threads commonly have (50).
const PRIORITY: i32 = 20;

/// Puts the calling thread under SCHED_FIFO and locks the process's memory; says in the log what was not allowed.
pub fn claim() {
    match fifo() {
        Ok(()) => log::debug!("capture: SCHED_FIFO, priority {PRIORITY}"),
        Err(error) => log::info!("capture: no real-time priority: {error} (LimitRTPRIO={PRIORITY} allows it)"),
    }
    // On fault: pages that are never touched, such as most of each thread's stack, stay out of memory. Not for what
    // comes later: an allocation that the limit forbids would fail; the ring is there by now, and what each session opens is small.
    if let Err(error) = lock_memory() {
        log::info!("capture: memory is not locked: {error} (LimitMEMLOCK=infinity allows it)");
    }
}

fn lock_memory() -> io::Result<()> {
    // SAFETY: the call takes flags alone and changes no memory, only whether it may be paged out.
    #[allow(unsafe_code)]
    let done = unsafe { libc::mlockall(libc::MCL_CURRENT | libc::MCL_ONFAULT) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn fifo() -> io::Result<()> {
    let parameters = libc::sched_param { sched_priority: PRIORITY };
    // SAFETY: the pointer is to a whole sched_param that outlives the call, and 0 names the calling thread.
    #[allow(unsafe_code)]
    let done = unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &parameters) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
