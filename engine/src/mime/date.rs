//! Dates in headers (RFC 5322 §3.3).

use crate::wire::Wall;

const DATE_BYTES: usize = 31;
const DAYS: [&[u8; 3]; 7] = [b"Thu", b"Fri", b"Sat", b"Sun", b"Mon", b"Tue", b"Wed"];
const MONTHS: [&[u8; 3]; 12] =
    [b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec"];

/// The date of a second, written once: `Sun, 22 Nov 2026 06:28:15 +0000`. Numeric zone, four-digit year (M-076).
#[derive(Debug, Clone)]
pub struct DateText {
    second: i64,
    offset_seconds: i32,
    text: [u8; DATE_BYTES],
}

impl Default for DateText {
    fn default() -> Self {
        let mut date = Self { second: 0, offset_seconds: 0, text: [b' '; DATE_BYTES] };
        date.write();
        date
    }
}

impl DateText {
    /// The text for `wall` in a zone `offset_seconds` east of UTC (whole minutes count). Outside the years 0 to 9999 the
    /// nearest second inside.
    pub fn at(&mut self, wall: Wall, offset_seconds: i32) -> &[u8] {
        const FIRST: i64 = -62_167_132_800;
        const LAST: i64 = 253_402_214_400;
        let second = wall.0.div_euclid(1_000_000).clamp(FIRST, LAST);
        if second != self.second || offset_seconds != self.offset_seconds {
            self.second = second;
            self.offset_seconds = offset_seconds.clamp(-86_340, 86_340);
            self.write();
        }
        &self.text
    }

    fn write(&mut self) {
        let local = self.second + i64::from(self.offset_seconds / 60 * 60);
        let (days, second) = (local.div_euclid(86_400), local.rem_euclid(86_400));
        let (year, month, day) = civil(days);
        let minutes = i64::from(self.offset_seconds.abs() / 60);
        let text = &mut self.text;
        text[0..3].copy_from_slice(DAYS[days.rem_euclid(7) as usize]);
        text[3] = b',';
        two(&mut text[5..7], day);
        text[8..11].copy_from_slice(MONTHS[month as usize - 1]);
        two(&mut text[12..14], year / 100);
        two(&mut text[14..16], year % 100);
        two(&mut text[17..19], second / 3600);
        text[19] = b':';
        two(&mut text[20..22], second / 60 % 60);
        text[22] = b':';
        two(&mut text[23..25], second % 60);
        text[26] = if self.offset_seconds < 0 { b'-' } else { b'+' };
        two(&mut text[27..29], minutes / 60);
        two(&mut text[29..31], minutes % 60);
    }
}

fn two(place: &mut [u8], number: i64) {
    place.copy_from_slice(&[b'0' + (number / 10) as u8, b'0' + (number % 10) as u8]);
}

/// Year, month and day of a day counted from 1970-01-01, in the Gregorian calendar. Years begin in March here, so that the
/// leap day is the last; an era has 400 of them, 146097 days.
fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let (era, day) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (year + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::{Timestamp, fmt::rfc2822, tz::Offset};

    #[test]
    fn m_076_dates_are_what_a_library_reads() {
        let mut date = DateText::default();
        assert_eq!(date.at(Wall(0), 0), b"Thu, 01 Jan 1970 00:00:00 +0000");
        assert_eq!(date.at(Wall(951_782_399_999_999), -3 * 3600 - 1800), b"Mon, 28 Feb 2000 20:29:59 -0330");
        for step in 0..40_000i64 {
            let second = step * 1_234_567 - 20_000_000_000 + step % 7;
            for offset in [0, 3600, -5 * 3600, 5 * 3600 + 2700] {
                let text = String::from_utf8(date.at(Wall(second * 1_000_000), offset).to_vec()).expect("ASCII");
                let zone = Offset::from_seconds(offset).expect("in range").to_time_zone();
                let expected = Timestamp::from_second(second).expect("in range").to_zoned(zone);
                let read = rfc2822::parse(&text).expect("a date");
                assert_eq!((read.timestamp(), read.offset()), (expected.timestamp(), expected.offset()), "{text}");
            }
        }
    }

    /// A leap second has no number of its own in UTC as systems count it, and no date says 60.
    #[test]
    fn f_058_behind_a_leap_second_and_across_a_change_to_summer_time_dates_go_on() {
        let mut date = DateText::default();
        let mut at = |second: i64, offset: i32| date.at(Wall(second * 1_000_000), offset).to_vec();
        assert_eq!(at(1_483_228_799, 0), b"Sat, 31 Dec 2016 23:59:59 +0000");
        assert_eq!(at(1_483_228_800, 0), b"Sun, 01 Jan 2017 00:00:00 +0000");
        // The clock is held or set back by a second: the same text again.
        assert_eq!(at(1_483_228_799, 0), b"Sat, 31 Dec 2016 23:59:59 +0000");
        assert_eq!(at(1_490_489_999, 3600), b"Sun, 26 Mar 2017 01:59:59 +0100");
        assert_eq!(at(1_490_490_000, 7200), b"Sun, 26 Mar 2017 03:00:00 +0200");
        for second in 1_483_228_700..1_483_228_900 {
            assert!(!at(second, 0)[17..25].windows(2).any(|two| two == b"60"), "{second}");
        }
    }

    #[test]
    fn f_056_clocks_gone_mad_still_give_dates() {
        let mut date = DateText::default();
        for wall in [i64::MIN, i64::MAX, -1] {
            for offset in [i32::MIN, i32::MAX, 0] {
                assert_eq!(date.at(Wall(wall), offset).len(), DATE_BYTES);
            }
        }
    }
}
