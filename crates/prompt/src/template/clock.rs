//! `strftime_now`: the engine's date, which some templates put into the prompt.
//!
//! The engine formats its own local time; containers run in UTC, and so does this.

use minijinja::{Error, ErrorKind};
use std::fmt::Write;

const DAYS: [&str; 7] =
    ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];
const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

/// Whether what `format` gives is the same all day.
pub(crate) fn is_date(format: &str) -> bool {
    let mut chars = format.chars();
    while let Some(char) = chars.next() {
        let directive = if char == '%' { chars.find(|char| *char != '-') } else { None };
        if directive.is_some_and(|directive| !"dmyYjBbhAa%".contains(directive)) {
            return false;
        }
    }
    true
}

/// `datetime.strftime(format)` of `unix_seconds` in UTC, in the C locale.
pub(crate) fn strftime(format: &str, unix_seconds: u64) -> Result<String, Error> {
    let days = unix_seconds / 86_400;
    let (year, month, day) = civil(days);
    let (hour, minute, second) =
        (unix_seconds / 3600 % 24, unix_seconds / 60 % 60, unix_seconds % 60);
    let name = |names: &[&'static str], at: u64| {
        usize::try_from(at).ok().and_then(|at| names.get(at).copied()).unwrap_or("")
    };
    let weekday = name(&DAYS, (days + 4) % 7);
    let month_name = name(&MONTHS, month.saturating_sub(1));
    let short = |name: &'static str| name.get(..3).unwrap_or(name);
    let year_day = days - days_before(year) + 1;
    let hour12 = if hour % 12 == 0 { 12 } else { hour % 12 };

    let mut out = String::new();
    let mut chars = format.chars();
    while let Some(char) = chars.next() {
        if char != '%' {
            out.push(char);
            continue;
        }
        let mut directive = chars.next();
        let padded = directive != Some('-');
        if !padded {
            directive = chars.next();
        }
        let mut number = |value: u64, width: usize| {
            let width = if padded { width } else { 0 };
            let _ = write!(out, "{value:0width$}");
        };
        match directive {
            Some('d') => number(day, 2),
            Some('m') => number(month, 2),
            Some('y') => number(year % 100, 2),
            Some('Y') => number(year, 4),
            Some('H') => number(hour, 2),
            Some('I') => number(hour12, 2),
            Some('M') => number(minute, 2),
            Some('S') => number(second, 2),
            Some('j') => number(year_day, 3),
            Some('B') if padded => out.push_str(month_name),
            Some('b' | 'h') if padded => out.push_str(short(month_name)),
            Some('A') if padded => out.push_str(weekday),
            Some('a') if padded => out.push_str(short(weekday)),
            Some('p') if padded => out.push_str(if hour < 12 { "AM" } else { "PM" }),
            Some('F') if padded => {
                let _ = write!(out, "{year:04}-{month:02}-{day:02}");
            }
            Some('T') if padded => {
                let _ = write!(out, "{hour:02}:{minute:02}:{second:02}");
            }
            Some('e') if padded => {
                let _ = write!(out, "{day:2}");
            }
            // A time without zone has no name for it.
            Some('Z' | 'z') if padded => {}
            Some('%') if padded => out.push('%'),
            _ => {
                return Err(Error::new(
                    ErrorKind::InvalidOperation,
                    "a strftime directive is not reproduced",
                ));
            }
        }
    }
    Ok(out)
}

/// Days from 1970-01-01 to the first of January of `year`, from 1970 on.
fn days_before(year: u64) -> u64 {
    let leaps = |year: u64| year / 4 - year / 100 + year / 400;
    let past = year.saturating_sub(1);
    365 * (year.saturating_sub(1970)) + leaps(past) - leaps(1969)
}

/// Year, month (1 to 12) and day (1 to 31) of a day counted from 1970-01-01.
fn civil(days: u64) -> (u64, u64, u64) {
    let mut year = 1970 + days / 366;
    while days_before(year + 1) <= days {
        year += 1;
    }
    let leap = days_before(year + 1) - days_before(year) == 366;
    let lengths = [31, if leap { 29 } else { 28 }, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let mut left = days - days_before(year);
    let mut month = 1;
    for length in lengths {
        if left < length {
            break;
        }
        left -= length;
        month += 1;
    }
    (year, month, left + 1)
}
