//! Recordings: WAV, FLAC and Ogg Vorbis, streamed as one channel at the file's own rate.
//!
//! Nothing is skipped in silence: a file that holds less than it states, or a frame that does not decode, is an error that
//! names the file. A WAV of unstated length (a recorder's pipe) is read to its end; `-` is standard input.

mod wav;

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use symphonia::core::codecs::audio::{AudioDecoder, AudioDecoderOptions};
use symphonia::core::errors::Error;
use symphonia::core::formats::probe::Hint;
use symphonia::core::formats::{FormatOptions, FormatReader, TrackType};
use symphonia::core::io::{MediaSourceStream, ReadOnlySource};
use symphonia::core::meta::MetadataOptions;

/// Channels that are averaged at the most: a file that states more is no recording of a room.
const CHANNELS_MAX: usize = 1024;

/// Sampling rates that are read, hertz: wider than a sound card's, narrow enough for the resampler's buffers.
const RATE_HZ: std::ops::RangeInclusive<u32> = 1_000..=768_000;

/// Largest value that a sample of a float file may have: 60 dB over full scale. What is louder was not written as sound.
const SAMPLE_MAX: f32 = 1000.0;

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
    /// Of a WAV, whose frames come as one channel.
    wav: Option<wav::Head>,
    stated_frames: Option<u64>,
    frames: u64,
    /// Decoded, frame by frame; what begins a frame that is not whole yet stays for the next packet.
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
            return Self::read("standard input".into(), std::io::stdin());
        }
        let opened = |cause| RecordingError::Open { file: name.clone(), cause };
        let mut file = File::open(path).map_err(opened)?;
        let held = file.metadata().map_err(opened)?;
        if held.is_dir() {
            return Err(RecordingError::Format { file: name, cause: "it is a folder".into() });
        }
        if held.is_file() && held.len() == 0 {
            return Err(RecordingError::Empty { file: name });
        }
        let recording = Self::read(name.clone(), file.try_clone().map_err(opened)?)?;
        let (true, Some(head)) = (held.is_file(), recording.wav) else { return Ok(recording) };
        let behind = held.len().saturating_sub(head.place);
        match head.data_bytes {
            Some(data) if data > behind => Err(RecordingError::Truncated {
                file: name,
                stated: head.place.saturating_add(data),
                held: held.len(),
                unit: "bytes",
            }),
            None => {
                // The two share one place in the file.
                let now = file.stream_position().map_err(opened)?;
                file.seek(SeekFrom::Start(head.place)).map_err(opened)?;
                let none = wav::only_chunks(&mut std::io::BufReader::new(&file));
                file.seek(SeekFrom::Start(now)).map_err(opened)?;
                if none { Err(RecordingError::Empty { file: name }) } else { Ok(recording) }
            }
            Some(_) => Ok(recording),
        }
    }

    fn read(name: String, source: impl Read + Send + Sync + 'static) -> Result<Self, RecordingError> {
        let refused = |cause: String| RecordingError::Format { file: name.clone(), cause };
        let (wav, stream) = wav::begin(source).map_err(refused)?;
        let stream = MediaSourceStream::new(Box::new(ReadOnlySource::new(stream)), Default::default());
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
        if let Some(channels) = wav.map(|head| head.channels).filter(|channels| *channels > CHANNELS_MAX) {
            return Err(refused(format!("it has {channels} channels, at most {CHANNELS_MAX} are read")));
        }
        let decoder = symphonia::default::get_codecs()
            .make_audio_decoder(parameters, &AudioDecoderOptions::default())
            .map_err(|error| refused(plain(&error)))?;
        let stated_frames = if let Some(head) = &wav { head.frames() } else { track.num_frames };
        let track = track.id;
        let (frames, interleaved, mono) = (0, Vec::new(), Vec::new());
        Ok(Self { name, format, decoder, track, rate_hz, wav, stated_frames, frames, interleaved, mono })
    }

    /// Sampling rate, hertz.
    pub fn rate_hz(&self) -> u32 {
        self.rate_hz
    }

    /// Length by its header, seconds, where stated.
    pub fn stated_s(&self) -> Option<f64> {
        self.stated_frames.map(|frames| frames as f64 / f64::from(self.rate_hz))
    }

    /// The next piece of sound: channels averaged, -1..1 but where a float WAV passes it. None at the end.
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
            let first = packet.pts.get();
            let begun = self.interleaved.len();
            let channels = match self.decoder.decode(&packet) {
                Ok(audio) => {
                    self.interleaved.resize(begun + audio.samples_interleaved(), 0.0);
                    audio.copy_to_slice_interleaved(&mut self.interleaved[begun..]);
                    self.wav.map_or(audio.spec().channels().count().max(1), |head| head.channels)
                }
                Err(error) => return Err(self.damaged(&error)),
            };
            // A frame that the reader could not make out is left out by it, and all later ones would be heard too early.
            if self.wav.is_none() && u64::try_from(first).is_ok_and(|first| first > self.frames) {
                return Err(self.damaged(&"a frame does not decode"));
            }
            // A float file can hold what is no number at all: it would poison every window it touches.
            if self.interleaved[begun..].iter().any(|sample| !sample.is_finite() || sample.abs() > SAMPLE_MAX) {
                return Err(self.damaged(&"a sample is not a finite number, or a thousand times full scale"));
            }
            let whole = self.interleaved.len() - self.interleaved.len() % channels;
            if whole == 0 {
                continue;
            }
            self.mono.clear();
            let frames = self.interleaved[..whole].chunks_exact(channels);
            self.mono.extend(frames.map(|frame| frame.iter().sum::<f32>() / channels as f32));
            self.interleaved.drain(..whole);
            self.frames += self.mono.len() as u64;
            if self.wav.is_none() {
                // Lossy codecs pass full scale where the sound did not. A float WAV is taken as it was written.
                self.mono.iter_mut().for_each(|sample| *sample = sample.clamp(-1.0, 1.0));
            }
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
        Error::Unsupported(what) => format!("not WAV, FLAC or Ogg Vorbis ({what})"),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests;
