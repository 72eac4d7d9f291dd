//! What the device perceives beside screams: the card's coming and going, the sound's health, what is missing of it, the
//! case and the button.

use std::time::Instant;

use detector::alarm::Event;
use detector::sound_health::{Defect, Finding};

use super::Control;
use super::contact::Told;
use crate::capture::Notice;
use crate::faults::{self, Fault};
use crate::inputs::Change;
use crate::lines::Line;

impl Control {
    pub(super) fn capture(&mut self, notice: Notice) {
        match notice {
            Notice::Opened { detail } => log::info!("{detail}"),
            Notice::Lost { detail } => {
                // People are told once, whatever it fails of next; the log has every cause, and the back-off bounds it.
                if self.faults.cause(Fault::CaptureLost).is_some_and(|before| before != detail) {
                    log::warn!("{} goes on: {detail}", Fault::CaptureLost.name());
                }
                self.fault(Fault::CaptureLost, &detail);
            }
            Notice::Stalled { detail } => self.fault(Fault::CaptureStalled, &detail),
            Notice::Heard => {
                for fault in [Fault::CaptureLost, Fault::CaptureStalled] {
                    // Of before the start as well: that it is heard is known by now.
                    if self.faults.clear(fault) || self.saved.faults.contains(fault.name()) {
                        self.tell_restore(fault.name(), "the microphone is heard again");
                    }
                }
            }
        }
    }

    /// Several defects may be one fault; it is over with the last of them.
    pub(super) fn sound(&mut self, Finding { defect, stands }: Finding) {
        let fault = Fault::of_defect(defect);
        let words = faults::defect_words(defect);
        self.defects.retain(|known| *known != defect);
        self.uncovered |= defect == Defect::Covered && !stands;
        if stands {
            self.defects.push(defect);
            self.fault(fault, words.stands);
        } else if !self.defects.iter().any(|known| Fault::of_defect(*known) == fault) {
            self.restore(fault, words.over);
        }
    }

    pub(super) fn read_inputs(&mut self) {
        let mut changes = Vec::new();
        for problem in self.parts.inputs.poll(self.began.elapsed(), |change| changes.push(change)) {
            self.line_fails(&problem);
        }
        for change in changes {
            match change {
                Change::Tamper(open) => self.contact.change(open),
                Change::SilencePressed => self.step(Event::Silence),
            }
        }
        while let Some(told) = self.contact.due(Instant::now()) {
            self.tell_case(told);
        }
    }

    fn tell_case(&mut self, Told { open, untold }: Told) {
        let t_s = self.now_us() as f64 / 1e6;
        // A restore is a signal of its own, as with faults: nobody has to guess which way a contact went.
        let (state, kind, words) = match open {
            true => ("start", hub::EventType::Tamper, "the case is open"),
            false => ("end", hub::EventType::Restore, "tamper: the case is closed again"),
        };
        self.lines.write(&Line::Tamper { state, t_s });
        match untold {
            0 => self.supervise(kind, None, words),
            _ => self.supervise(kind, None, &format!("{words}; {untold} change(s) before that are not told each")),
        }
    }
}
