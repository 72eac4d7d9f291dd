//! Recordings: WAV and FLAC (and what else symphonia was built with), streamed as one channel at the file's own rate.
//!
//! Nothing is skipped in silence: a file that holds less than it states, or a frame that does not decode, is an error that
//! names the file. A WAV of unstated length (a recorder's pipe) is read to its end; `-` is standard input.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use symphonia::core::codecs::audio::{AudioDecoder, AudioDecoderOptions};
use symphonia::core::errors::Error;
use symphonia::core::formats::probe::Hint;
use symphonia::core::formats::{FormatOptions, FormatReader, TrackType};
use symphonia::core::io::{MediaSource, MediaSourceStream, ReadOnlySource};
use symphonia::core::meta::MetadataOptions;

/// Channels that are averaged at the most: a file that states more is no recording of a room.
const CHANNELS_MAX: usize = 32;

/// Sampling rates that are read, hertz: wider than a sound card's, narrow enough for the resampler's buffers.
const RATE_HZ: std::ops::RangeInclusive<u32> = 1_000..=768_000;

/// Data lengths of a WAV that state none, bytes: what recorders write that cannot go back to the header (arecord, sox, ffmpeg).
const UNSTATED: [std::ops::RangeInclusive<u32>; 2] = [0x7fff_0000..=0x8000_0000, 0xffff_0000..=u32::MAX];

/// Why a recording was refused or broke off.
#[derive(Debug, thiserror::Error)]
pub enum RecordingError {
    /// The file cannot be opened.
    #[error("{file}: {cause}")]
    Open {
        /// As the user named it.
        file: String,
        /// The system's words.
        cause: std::io::Error,
    },
    /// No sound file, or none that is read here.
    #[error("{file}: not a recording that can be read: {cause}")]
    Format {
        /// As the user named it.
        file: String,
        /// What is wrong.
        cause: String,
    },
    /// Holds no sound.
    #[error("{file}: is empty: it holds no sound")]
    Empty {
        /// As the user named it.
        file: String,
    },
    /// Shorter than its header says.
    #[error("{file}: truncated: its header states {stated} {unit}, it holds {held}")]
    Truncated {
        /// As the user named it.
        file: String,
        /// What the header says.
        stated: u64,
        /// What is there.
        held: u64,
        /// Of what: bytes or frames.
        unit: &'static str,
    },
    /// A part of it does not decode.
    #[error("{file}: damaged after {seconds:.2} s: {cause}")]
    Damaged {
        /// As the user named it.
        file: String,
        /// Where.
        seconds: f64,
        /// The decoder's words.
        cause: String,
    },
}

/// A recording being read.
pub struct Recording {
    name: String,
    format: Box<dyn FormatReader>,
    decoder: Box<dyn AudioDecoder>,
    track: u32,
    rate_hz: u32,
    channels: usize,
    /// By a WAV's own header: a decoder that makes fewer of them would take other channels' samples for later ones.
    stated_channels: Option<u16>,
    stated_frames: Option<u64>,
    frames: u64,
    interleaved: Vec<f32>,
    mono: Vec<f32>,
}

impl Recording {
    /// Opens `path`; `-` is standard input. Header and length of a WAV file are checked here, before anything runs.
    ///
    /// # Errors
    /// [`RecordingError`].
    pub fn open(path: &Path) -> Result<Self, RecordingError> {
        let name = path.display().to_string();
        if path == Path::new("-") {
            return Self::read("standard input".into(), Box::new(ReadOnlySource::new(std::io::stdin())), None, false);
        }
        let opened = |cause| RecordingError::Open { file: name.clone(), cause };
        let mut file = File::open(path).map_err(opened)?;
        let regular = file.metadata().map_err(opened)?.is_file();
        if path.is_dir() {
            return Err(RecordingError::Format { file: name, cause: "it is a folder".into() });
        }
        if regular {
            let (channels, sized) = check_wav(&name, &mut file)?;
            return Self::read(name, Box::new(file), channels, sized);
        }
        Self::read(name, Box::new(ReadOnlySource::new(file)), None, false)
    }

    fn read(
        name: String,
        source: Box<dyn MediaSource>,
        stated_channels: Option<u16>,
        sized: bool,
    ) -> Result<Self, RecordingError> {
        let refused = |cause: String| RecordingError::Format { file: name.clone(), cause };
        let readable = |channels: usize| match channels {
            0..=CHANNELS_MAX => Ok(channels),
            _ => Err(refused(format!("it has {channels} channels, at most {CHANNELS_MAX} are read"))),
        };
        readable(stated_channels.map_or(0, usize::from))?;
        let stream = MediaSourceStream::new(source, Default::default());
        let format = symphonia::default::get_probe()
            .probe(&Hint::new(), stream, FormatOptions::default(), MetadataOptions::default())
            .map_err(|error| refused(plain(&error)))?;
        let track = format.default_track(TrackType::Audio).ok_or_else(|| refused("it has no sound track".into()))?;
        let parameters = track
            .codec_params
            .as_ref()
            .and_then(|parameters| parameters.audio())
            .ok_or_else(|| refused("its codec is not stated".into()))?;
        let rate_hz = parameters.sample_rate.ok_or_else(|| refused("its sampling rate is not stated".into()))?;
        let rates = RATE_HZ;
        if !rates.contains(&rate_hz) {
            return Err(refused(format!(
                "its sampling rate is {rate_hz} Hz, must be {} to {}",
                rates.start(),
                rates.end()
            )));
        }
        let channels = readable(parameters.channels.as_ref().map_or(0, |channels| channels.count()))?;
        let decoder = symphonia::default::get_codecs()
            .make_audio_decoder(parameters, &AudioDecoderOptions::default())
            .map_err(|error| refused(plain(&error)))?;
        let (track, stated_frames) = (track.id, track.num_frames.filter(|_| sized));
        Ok(Self {
            name,
            track,
            rate_hz,
            channels,
            stated_channels,
            stated_frames,
            frames: 0,
            interleaved: Vec::new(),
            mono: Vec::new(),
            format,
            decoder,
        })
    }

    /// Sampling rate, hertz.
    pub fn rate_hz(&self) -> u32 {
        self.rate_hz
    }

    /// Length by its header, seconds, where stated.
    pub fn stated_s(&self) -> Option<f64> {
        self.stated_frames.map(|frames| frames as f64 / f64::from(self.rate_hz))
    }

    /// The next piece of sound: channels averaged, -1..1. None at the end.
    ///
    /// # Errors
    /// [`RecordingError::Damaged`], [`RecordingError::Truncated`], or [`RecordingError::Empty`] at the end of nothing.
    pub fn next_piece(&mut self) -> Result<Option<&[f32]>, RecordingError> {
        loop {
            let packet = match self.format.next_packet() {
                Ok(Some(packet)) => packet,
                Ok(None) => return self.ended().map(|()| None),
                Err(Error::IoError(error)) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
                    return self.ended().map(|()| None);
                }
                Err(error) => return Err(self.damaged(&error)),
            };
            if packet.track_id != self.track {
                continue;
            }
            let frames = match self.decoder.decode(&packet) {
                Ok(audio) => {
                    self.channels = audio.spec().channels().count().max(1);
                    if let Some(stated) = self.stated_channels.filter(|stated| usize::from(*stated) != self.channels) {
                        let cause = format!("its header states {stated} channels, it decodes as {}", self.channels);
                        return Err(self.damaged(&cause));
                    }
                    self.interleaved.resize(audio.samples_interleaved(), 0.0);
                    audio.copy_to_slice_interleaved(&mut self.interleaved);
                    audio.frames()
                }
                Err(error) => return Err(self.damaged(&error)),
            };
            if frames == 0 {
                continue;
            }
            self.frames += frames as u64;
            // A float file can hold what is no number at all: it would poison every window it touches.
            if self.interleaved.iter().any(|sample| !sample.is_finite()) {
                return Err(self.damaged(&"a sample is not a finite number"));
            }
            self.mono.clear();
            // Lossy codecs and float files can pass full scale; a converter cannot.
            self.mono.extend(
                self.interleaved
                    .chunks_exact(self.channels)
                    .map(|frame| (frame.iter().sum::<f32>() / self.channels as f32).clamp(-1.0, 1.0)),
            );
            return Ok(Some(&self.mono));
        }
    }

    /// All of the recording, and its rate.
    ///
    /// # Errors
    /// As [`Self::open`] and [`Self::next_piece`].
    pub fn read_all(path: &Path) -> Result<(Vec<f32>, u32), RecordingError> {
        let mut recording = Self::open(path)?;
        let mut sound = Vec::new();
        while let Some(piece) = recording.next_piece()? {
            sound.extend_from_slice(piece);
        }
        Ok((sound, recording.rate_hz))
    }

    fn ended(&self) -> Result<(), RecordingError> {
        let file = self.name.clone();
        match self.stated_frames {
            _ if self.frames == 0 => Err(RecordingError::Empty { file }),
            Some(stated) if self.frames < stated => {
                Err(RecordingError::Truncated { file, stated, held: self.frames, unit: "frames" })
            }
            _ => Ok(()),
        }
    }

    fn damaged(&self, cause: &dyn std::fmt::Display) -> RecordingError {
        RecordingError::Damaged {
            file: self.name.clone(),
            seconds: self.frames as f64 / f64::from(self.rate_hz),
            cause: cause.to_string(),
        }
    }
}

/// What a person can do something with: symphonia calls the end of a file that it cannot make out an I/O error.
fn plain(error: &Error) -> String {
    match error {
        Error::IoError(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
            "it ends before a header is complete".into()
        }
        Error::Unsupported(what) => format!("neither WAV nor FLAC ({what})"),
        other => other.to_string(),
    }
}

/// A WAV file's data chunk must lie inside the file: known before a second of it has been heard. Its channels, where it is one, and
/// whether it states its length: recorders that write into a pipe state the largest there is.
fn check_wav(name: &str, file: &mut File) -> Result<(Option<u16>, bool), RecordingError> {
    let io = |cause| RecordingError::Open { file: name.into(), cause };
    let held = file.metadata().map_err(io)?.len();
    if held == 0 {
        return Err(RecordingError::Empty { file: name.into() });
    }
    let (mut place, mut channels, mut sized) = (12, None, true);
    let mut header = [0; 12];
    if file.read_exact(&mut header).is_ok() && &header[..4] == b"RIFF" && &header[8..] == b"WAVE" {
        loop {
            let mut chunk = [0; 8];
            file.seek(SeekFrom::Start(place)).map_err(io)?;
            if file.read_exact(&mut chunk).is_err() {
                return Err(RecordingError::Format {
                    file: name.into(),
                    cause: "it ends before its data chunk".into(),
                });
            }
            let length = u32::from_le_bytes([chunk[4], chunk[5], chunk[6], chunk[7]]);
            if &chunk[..4] == b"data" {
                let stated = place + 8 + u64::from(length);
                sized = !UNSTATED.iter().any(|lengths| lengths.contains(&length)) || stated <= held;
                if length == 0 {
                    return Err(RecordingError::Empty { file: name.into() });
                }
                if stated > held && sized {
                    return Err(RecordingError::Truncated { file: name.into(), stated, held, unit: "bytes" });
                }
                break;
            }
            if &chunk[..4] == b"fmt " {
                let mut format = [0; 4];
                file.read_exact(&mut format).map_err(io)?;
                channels = Some(u16::from_le_bytes([format[2], format[3]]));
            }
            place += 8 + u64::from(length) + u64::from(length % 2);
        }
    }
    file.rewind().map_err(io)?;
    Ok((channels, sized))
}
