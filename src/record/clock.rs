//! Steps of the wall clock, and what the kernel says of its error: readings in, details of clock
//! entries out. Reads no clock itself.
//!
//! UTC minus the boot clock stays the same while the kernel steers its clock, because steering moves
//! both; it changes when somebody sets the wall clock. So the difference at the last entry is kept, and
//! one that is off by more than [`STEP_NS`] is a step.

use serde_json::{Value, json};

use super::note::time_text;
use crate::types::Now;

/// A difference beyond this is a step.
pub const STEP_NS: u64 = 100_000_000;
/// Readings that must agree: between the two clocks of one reading the thread may lose its core.
const READINGS: u32 = 4;
/// Pause between two questions to the kernel.
const ASK_NS: u64 = 1_000_000_000;
/// Pause between two entries about the kernel's error while nothing changes.
const TELL_NS: u64 = 3_600_000_000_000;

/// What the kernel says of its clock (adjtimex(2)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stated {
    /// Something steers the clock.
    pub synchronized: bool,
    /// Largest possible error, microseconds.
    pub error_us_max: i64,
    /// Estimated error, microseconds.
    pub error_us: i64,
    /// Status bits (`STA_*`).
    pub status: i32,
}

/// The watch of one writer.
#[derive(Debug)]
pub struct ClockWatch {
    difference_ns: i128,
    asked_ns: Option<u64>,
    /// What was told last, and when.
    told: Option<(Option<bool>, u64)>,
}

fn difference(now: Now) -> i128 {
    i128::from(now.utc_ns) - i128::from(now.mono_ns)
}

impl ClockWatch {
    /// Begins with the clocks as they are.
    pub fn new(now: Now) -> ClockWatch {
        ClockWatch { difference_ns: difference(now), asked_ns: None, told: None }
    }

    /// The detail of an entry when the wall clock was set since the last one. `read` reads both clocks.
    pub fn step(&mut self, boot_id: &str, mut read: impl FnMut() -> Now) -> Option<Value> {
        let mut now = read();
        let off = |now: Now, from: i128| difference(now) - from;
        let from = self.difference_ns;
        for _ in 1..READINGS {
            if off(now, from).unsigned_abs() <= u128::from(STEP_NS) {
                return None;
            }
            let again = read();
            if off(again, from).unsigned_abs() < off(now, from).unsigned_abs() {
                now = again;
            }
        }
        let step_ns = off(now, from);
        if step_ns.unsigned_abs() <= u128::from(STEP_NS) {
            return None;
        }
        self.difference_ns = difference(now);
        let before = i128::from(now.utc_ns) - step_ns;
        Some(json!({
            "step_ns": i64::try_from(step_ns).unwrap_or(if step_ns < 0 { i64::MIN } else { i64::MAX }),
            "before": time_text(u64::try_from(before).unwrap_or_default()),
            "after": time_text(now.utc_ns),
            "mono_ns": now.mono_ns,
            "boot_id": boot_id,
        }))
    }

    /// True when the kernel should be asked again.
    pub fn asks(&mut self, now: Now) -> bool {
        let due = self.asked_ns.is_none_or(|asked| now.mono_ns.saturating_sub(asked) >= ASK_NS);
        if due {
            self.asked_ns = Some(now.mono_ns);
        }
        due
    }

    /// The kernel has answered (`None`: it does not say). The detail of an entry at the first answer,
    /// when the clock became or ceased to be synchronized, and once an hour.
    pub fn stated(&mut self, now: Now, stated: Option<Stated>) -> Option<Value> {
        let synchronized = stated.map(|stated| stated.synchronized);
        if let Some((known, since)) = self.told
            && known == synchronized
            && now.mono_ns.saturating_sub(since) < TELL_NS
        {
            return None;
        }
        self.told = Some((synchronized, now.mono_ns));
        let said = stated.map(|stated| {
            json!({
                "synchronized": stated.synchronized,
                "error_us_max": stated.error_us_max,
                "error_us": stated.error_us,
                "status": stated.status,
            })
        });
        Some(json!({ "stated": said }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: u64 = 1_000_000_000;

    fn at(utc_ns: u64, mono_ns: u64) -> Now {
        Now { utc_ns, mono_ns }
    }

    // Mutants: `READINGS` of 1; a threshold of 200 ms.
    #[test]
    fn steps_are_told_once_and_lost_cores_are_not_steps() {
        let mut watch = ClockWatch::new(at(1_000 * S, 10 * S));
        let mut step = |readings: &[Now]| {
            let mut readings = readings.iter().cycle();
            watch.step("b", || *readings.next().unwrap())
        };
        assert_eq!(step(&[at(1_005 * S, 15 * S)]), None);
        // The boot clock was read 3 s after the wall clock, once.
        assert_eq!(step(&[at(1_006 * S, 19 * S), at(1_009 * S, 19 * S)]), None);
        assert_eq!(step(&[at(1_010 * S + STEP_NS, 20 * S)]), None);
        let told = step(&[at(1_010 * S + STEP_NS + 1, 20 * S)]).unwrap();
        assert_eq!(
            (told["step_ns"].as_i64(), told["boot_id"].as_str()),
            (Some(100_000_001), Some("b"))
        );
        assert_eq!(told["before"], "1970-01-01T00:16:50.000000000Z");
        assert_eq!(told["after"], "1970-01-01T00:16:50.100000001Z");
        assert_eq!(step(&[at(1_011 * S + STEP_NS + 1, 21 * S)]), None);
        // Back by an hour and more.
        let told = step(&[at(S, 22 * S)]).unwrap();
        assert_eq!(told["step_ns"], -1_011_100_000_001i64);
        // Small steps add up.
        assert_eq!(step(&[at(S + STEP_NS * 3 / 4, 22 * S)]), None);
        assert!(step(&[at(S + STEP_NS * 3 / 2, 22 * S)]).is_some());
    }

    #[test]
    fn the_kernels_word_is_told_at_first_at_a_change_and_each_hour() {
        let stated =
            |synchronized| Some(Stated { synchronized, error_us_max: 9, error_us: 3, status: 1 });
        let mut watch = ClockWatch::new(at(0, 0));
        assert!(watch.asks(at(0, 5)) && !watch.asks(at(0, 5 + ASK_NS - 1)));
        assert!(watch.asks(at(0, 5 + ASK_NS)));
        let told = watch.stated(at(0, 1), stated(true)).unwrap();
        assert_eq!(told["stated"]["error_us_max"], 9);
        assert_eq!(watch.stated(at(0, TELL_NS), stated(true)), None);
        assert_eq!(watch.stated(at(0, 2), stated(false)).unwrap()["stated"]["synchronized"], false);
        assert!(watch.stated(at(0, 3), None).unwrap()["stated"].is_null());
        assert!(watch.stated(at(0, 3 + TELL_NS), None).is_some());
    }
}
