//! Cookie dates (5.1.1): whatever looks like a day, a month, a year and a time, in any order.

use time::{Date, Month, Time, UtcDateTime};

/// The date that a cookie's `Expires` names, if it names one.
pub(crate) fn parse(text: &[u8]) -> Option<UtcDateTime> {
    let mut parts = Parts::default();
    for token in text.split(|byte| is_delimiter(*byte)).filter(|token| !token.is_empty()) {
        parts.take(token);
    }
    parts.date()
}

#[derive(Default)]
struct Parts {
    time: Option<[u32; 3]>,
    day: Option<u32>,
    month: Option<Month>,
    year: Option<u32>,
}

impl Parts {
    /// Takes a token for the first part that is still missing and that it can be.
    fn take(&mut self, token: &[u8]) {
        let day = || digits(token, 1, 2).map(|(day, _)| day);
        let year = || digits(token, 2, 4).map(|(year, _)| year);
        let _ = fill(&mut self.time, || time(token))
            || fill(&mut self.day, day)
            || fill(&mut self.month, || month(token))
            || fill(&mut self.year, year);
    }

    fn date(self) -> Option<UtcDateTime> {
        let year = match self.year? {
            short @ 70..=99 => short + 1900,
            short @ 0..=69 => short + 2000,
            year => year,
        };
        if year < 1601 {
            return None;
        }
        let byte = |number: u32| u8::try_from(number).ok();
        let [hour, minute, second] = self.time?;
        let year = i32::try_from(year).ok()?;
        let date = Date::from_calendar_date(year, self.month?, byte(self.day?)?).ok()?;
        let time = Time::from_hms(byte(hour)?, byte(minute)?, byte(second)?).ok()?;
        Some(UtcDateTime::new(date, time))
    }
}

fn fill<T>(part: &mut Option<T>, read: impl FnOnce() -> Option<T>) -> bool {
    if part.is_some() {
        return false;
    }
    *part = read();
    part.is_some()
}

fn is_delimiter(byte: u8) -> bool {
    matches!(byte, 0x09 | 0x20..=0x2f | 0x3b..=0x40 | 0x5b..=0x60 | 0x7b..=0x7e)
}

fn time(token: &[u8]) -> Option<[u32; 3]> {
    let (hour, rest) = digits(token, 1, 2)?;
    let (minute, rest) = digits(rest.strip_prefix(b":")?, 1, 2)?;
    let (second, _) = digits(rest.strip_prefix(b":")?, 1, 2)?;
    Some([hour, minute, second])
}

fn month(token: &[u8]) -> Option<Month> {
    let name = token.get(..3)?.to_ascii_lowercase();
    let at = MONTHS.iter().position(|month| month.as_bytes() == name)?;
    Month::try_from(u8::try_from(at + 1).ok()?).ok()
}

/// The number at the start of a token, if it has exactly this many digits.
fn digits(token: &[u8], least: usize, most: usize) -> Option<(u32, &[u8])> {
    let len = token.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (number, rest) = token.split_at(len);
    let value = number
        .iter()
        .fold(0_u32, |sum, digit| sum.saturating_mul(10).saturating_add(u32::from(digit - b'0')));
    (least..=most).contains(&len).then_some((value, rest))
}

const MONTHS: [&str; 12] =
    ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 6265bis, section 5.1.1.
    #[test]
    fn dates_have_many_forms() {
        for text in [
            "Sun, 06 Nov 1994 08:49:37 GMT",
            "Sunday, 06-Nov-94 08:49:37 GMT",
            "Sun Nov  6 08:49:37 1994",
            "8:49:37 6th november 94",
        ] {
            assert_eq!(parse(text.as_bytes()).unwrap().unix_timestamp(), 784_111_777, "{text}");
        }
    }

    /// RFC 6265bis, section 5.1.1.
    #[test]
    fn an_invalid_date_is_none() {
        for text in [
            "",
            "Sun, 06 Nov 1994",
            "06 Nov 1994 24:00:00",
            "06 Nov 1994 08:60:00",
            "32 Nov 1994 08:49:37",
            "30 Feb 1994 08:49:37",
            "06 Nov 1600 08:49:37",
            "006 Nov 19940 08:49:37",
            "06 Nov 1994 008:49:37",
        ] {
            assert_eq!(parse(text.as_bytes()), None, "{text}");
        }
    }
}
