//! What both programs read and write on disk: recordings, model folders, board and site files, pictures, event records.
//!
//! Beside `detector`, which may not do I/O, and below the device: no ALSA, no GPIO, no network.

pub mod board;
pub mod card_name;
pub mod event_record;
pub mod model_dir;
pub mod picture;
pub mod private_file;
pub mod quiet_hours;
pub mod recording;
pub mod say;
pub mod site;
pub mod wav;
