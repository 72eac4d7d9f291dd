//! Quiet hours: ranges of local time in which the siren stays off. None while the clock is not set.

use jiff::civil::Time;

/// Ranges of the day; one that ends before it begins goes over midnight.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct QuietHours(Vec<(Time, Time)>);

impl QuietHours {
    /// From the site file's texts, which [`crate::site::Site::parse`] has checked.
    pub fn new(ranges: &[String]) -> Self {
        Self(ranges.iter().filter_map(|range| Self::parse_range(range).ok()).collect())
    }

    /// `"22:00-06:30"`; the end may be 24:00.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse_range(range: &str) -> Result<(Time, Time), String> {
        let time = |text: &str| {
            let (hour, minute) = text.trim().split_once(':')?;
            (hour.len() <= 2 && minute.len() == 2).then_some(())?;
            Time::new(hour.parse().ok()?, minute.parse().ok()?, 0, 0).ok()
        };
        let (from, to) = range.split_once('-').ok_or_else(|| format!("`{range}` is not HH:MM-HH:MM"))?;
        // The day's end is its beginning: 00:00-24:00 is always.
        let midnight = to.trim() == "24:00";
        let end = if midnight { Some(Time::midnight()) } else { time(to) };
        match (time(from), end) {
            (Some(from), Some(to)) if from == to && !midnight => {
                Err(format!("`{range}` begins and ends at the same minute"))
            }
            (Some(from), Some(to)) => Ok((from, to)),
            _ => Err(format!("`{range}` is not HH:MM-HH:MM")),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether `local` lies in one of them; the end does not.
    pub fn contain(&self, local: Time) -> bool {
        self.0
            .iter()
            .any(|&(from, to)| if from < to { from <= local && local < to } else { from <= local || local < to })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn ranges_over_noon_and_midnight() {
        let quiet = QuietHours::new(&["09:00-10:00".into(), "22:00-06:30".into()]);
        let check = |hour, minute, expect| {
            assert_eq!(quiet.contain(Time::new(hour, minute, 0, 0).unwrap()), expect, "{hour}:{minute}")
        };
        check(9, 0, true);
        check(9, 59, true);
        check(10, 0, false);
        check(21, 59, false);
        check(22, 0, true);
        check(0, 0, true);
        check(6, 29, true);
        check(6, 30, false);
        let always = QuietHours::new(&["00:00-24:00".into()]);
        let evening = QuietHours::new(&["22:00-24:00".into()]);
        let (first, last) = (Time::midnight(), Time::new(23, 59, 59, 0).unwrap());
        assert!(always.contain(first) && always.contain(last));
        assert!(!evening.contain(first) && evening.contain(last));
    }

    #[test]
    fn nonsense_is_refused() {
        for text in ["", "9-10", "24:00-01:00", "10:00-10:00", "10:0-11:00", "a:bc-d:ef"] {
            assert!(QuietHours::parse_range(text).is_err(), "{text}");
        }
    }
}
