//! Whether a number is one that a double can hold.
//!
//! Why not by making a double of it: numbers can be written so that this takes a hundred times longer than
//! reading them (half-way cases of many digits), and a message may hold tens of thousands.

/// The least number that is rounded to infinity: half a step above the largest double, 2^1024 - 2^970
/// (IEEE 754-2019 §4.3.1, ties to even).
const INFINITE_FROM: &[u8; DIGITS] =
    b"17976931348623158079372897140530341507993413271003782693617377898044496829276475\
    09466490179775872070963302864166928879109465555478519404026306574886715058206819\
    08902000708383676273854845817711531764475730270069855571366959622842914819860834\
    936475292719074168444365510704342711559699508093042880177904174497792";

/// Digits of a number of that size without an exponent.
pub(super) const DIGITS: usize = 309;

/// `token` is a number of RFC 8259 §6 that a double cannot hold. One look at each byte.
pub(super) fn is_beyond_double(token: &[u8]) -> bool {
    let split = token.iter().position(|byte| matches!(byte, b'e' | b'E')).unwrap_or(token.len());
    let (mantissa, exponent) = token.split_at(split);
    let digits = || mantissa.iter().filter(|byte| byte.is_ascii_digit());
    let Some(zeros) = digits().position(|digit| *digit != b'0') else { return false };
    let integers = mantissa.split(|byte| *byte == b'.').next().unwrap_or_default();
    let integers = integers.iter().filter(|byte| byte.is_ascii_digit()).count();
    // Digits in front of the point when the first one that is not zero stands first. No message is so
    // long that this overflows.
    let places = (integers as i64 - zeros as i64).saturating_add(value(exponent));
    match places.cmp(&(DIGITS as i64)) {
        std::cmp::Ordering::Less => false,
        std::cmp::Ordering::Greater => true,
        // What is shorter goes on with zeros, and so does the other one, at the least.
        std::cmp::Ordering::Equal => {
            let seen = digits().skip(zeros).copied().chain(std::iter::repeat(b'0'));
            seen.take(DIGITS).ge(INFINITE_FROM.iter().copied())
        }
    }
}

/// The exponent, `e` included; beyond any that matters it stays where it is.
fn value(exponent: &[u8]) -> i64 {
    let digits = exponent.iter().filter(|byte| byte.is_ascii_digit());
    let value = digits.fold(0_i64, |value, digit| {
        value.saturating_mul(10).saturating_add(i64::from(digit - b'0'))
    });
    if exponent.contains(&b'-') { -value } else { value }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers around the largest double and others, in many spellings.
    fn spellings() -> Vec<String> {
        let edge = std::str::from_utf8(INFINITE_FROM).expect("digits");
        let below = format!("{}79", &edge[..307]);
        let mut all = Vec::new();
        for digits in [edge, &below, "1", "9", "17976931348623157", "17976931348623158", "18", "2"]
        {
            for zeros in ["", "0", "000000", &"0".repeat(400)] {
                for shift in
                    [-400_i64, -330, -309, -308, -1, 0, 1, 291, 292, 307, 308, 309, 310, 400]
                {
                    all.push(format!("{digits}{zeros}e{shift}"));
                    all.push(format!("0.{zeros}{digits}E+{}", shift.unsigned_abs()));
                    all.push(
                        format!("-{}.{}{zeros}e{shift}", &digits[..1], &digits[1..])
                            .replace(".e", ".0e"),
                    );
                }
                all.push(format!("{digits}{zeros}"));
                all.push(format!("0.{zeros}{digits}"));
            }
        }
        all.extend(
            [
                "0e999999999999999999999",
                "-0.0e400",
                "1e99999999999999999999",
                "1e-99999999999999999999",
            ]
            .map(String::from),
        );
        all.push(format!("0.{}1e{}", "0".repeat(500), 809));
        all.push(format!("0.{}1e{}", "0".repeat(500), 810));
        all
    }

    // Mutants: `gt` in place of `ge`; leading zeros counted as places.
    #[test]
    fn it_says_what_the_making_of_a_double_says() {
        let mut beyond = 0;
        for text in spellings() {
            let expected = text.parse::<f64>().expect("a number").is_infinite();
            assert_eq!(is_beyond_double(text.as_bytes()), expected, "{text}");
            beyond += u32::from(expected);
        }
        assert!(beyond > 100, "{beyond}");
    }
}
