//! `[workers]` and `[limits]`: what the process may take of its host.

use toml::de::DeValue;

use super::Reading;
use crate::app::config::problem::At;
use crate::app::config::table::{Section, as_integer, kind_of};
use crate::app::config::value;
use crate::app::config::{Cores, Workers};
use crate::limits::{Limits, Unit};

pub(super) fn limits(root: &mut Section<'_>, reading: &mut Reading<'_>) -> Limits {
    let mut limits = Limits::default();
    let problems = &mut reading.problems;
    let Some(mut section) = root.section("limits", problems) else { return limits };
    for bound in Limits::BOUNDS {
        let Some(at) = section.value(bound.name, problems) else { continue };
        let number = as_integer(at.value).and_then(|number| u64::try_from(number).ok());
        let value = match (bound.unit, at.value) {
            (Unit::Count | Unit::Bytes, DeValue::Integer(_)) => number,
            (Unit::Bytes, DeValue::String(text)) => value::size_bytes(text),
            (Unit::Milliseconds, DeValue::String(text)) => value::duration_ms(text),
            _ => None,
        };
        match value {
            Some(value) if (bound.least..=bound.default).contains(&value) => {
                limits.set(bound.name, value);
            }
            Some(value) => {
                problems.at(&at, value::bound_text(bound.unit, value), value::bound_range(bound));
            }
            None => {
                let seen = match at.value {
                    DeValue::String(text) => format!("{text:?}"),
                    other => kind_of(other),
                };
                problems.at(&at, seen, value::bound_range(bound));
            }
        }
    }
    section.finish(problems);
    limits
}

pub(super) fn workers(root: &mut Section<'_>, reading: &mut Reading<'_>) -> Workers {
    let mut workers = Workers { cores: Cores::Auto, ring_depth: 1024 };
    let problems = &mut reading.problems;
    let Some(mut section) = root.section("workers", problems) else { return workers };
    const ALLOWED: &str = "\"auto\" or a list of core numbers such as [0, 1]";
    if let Some(at) = section.value("cores", problems) {
        match at.value {
            DeValue::String(text) if text == "auto" => {}
            DeValue::Array(items) => {
                let mut cores: Vec<u16> = Vec::new();
                for (index, item) in items.iter().enumerate() {
                    let line = problems.line(item.span().start);
                    let place = At { value: (), line, key: format!("{}[{index}]", at.key) };
                    // Bound: the kernel's CPU_SETSIZE, the width of an affinity mask.
                    match as_integer(item.get_ref()).filter(|core| (0..1024).contains(core)) {
                        Some(core) if cores.contains(&(core as u16)) => {
                            problems.at(&place, format!("{core} a second time"), "distinct cores");
                        }
                        Some(core) => cores.push(core as u16),
                        None => {
                            problems.at(&place, kind_of(item.get_ref()), "a core from 0 to 1023")
                        }
                    }
                }
                if items.is_empty() {
                    problems.at(&at, "an empty list", ALLOWED);
                }
                // Bound: a worker's number has 8 bits in an exchange id.
                if cores.len() > 256 {
                    problems.at(&at, format!("{} cores", cores.len()), "at most 256 cores");
                }
                workers.cores = Cores::List(cores);
            }
            DeValue::String(text) => problems.at(&at, format!("{text:?}"), ALLOWED),
            other => problems.at(&at, kind_of(other), ALLOWED),
        }
    }
    if let Some(at) = section.integer("ring_depth", problems) {
        // Bound: io_uring takes at most 32768 entries and rounds up to a power of two.
        match u32::try_from(at.value) {
            Ok(depth) if (64..=32_768).contains(&depth) && depth.is_power_of_two() => {
                workers.ring_depth = depth;
            }
            _ => problems.at(&at, at.value.to_string(), "a power of two from 64 to 32768"),
        }
    }
    section.finish(problems);
    workers
}
