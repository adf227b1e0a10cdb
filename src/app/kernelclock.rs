//! What the kernel says of the error of its wall clock.
//!
//! adjtimex(2) has no safe wrapper that gives the two error fields. The system call is made by its own
//! number, because the C library's function of that name makes another one, `clock_adjtime`, which
//! container profiles keep from everybody who may not set the clock.

use crate::record::clock::Stated;

/// The clock is not synchronized: value of the call, and status bit (linux/timex.h).
const TIME_ERROR: libc::c_long = 5;
const STA_UNSYNC: libc::c_int = 0x0040;

/// Asks the kernel; `None` where it does not say.
pub fn stated() -> Option<Stated> {
    // SAFETY: a structure of integers only, for which zero bytes are a value; zero `modes` asks for
    // nothing to be changed.
    let mut timex: libc::timex = unsafe { std::mem::zeroed() };
    // SAFETY: the pointer leads to a whole structure of the type that this call writes, which lives
    // and is borrowed by nobody else until the call has returned.
    let state = unsafe { libc::syscall(libc::SYS_adjtimex, &raw mut timex) };
    (state >= 0).then_some(Stated {
        synchronized: state != TIME_ERROR && timex.status & STA_UNSYNC == 0,
        error_us_max: timex.maxerror,
        error_us: timex.esterror,
        status: timex.status,
    })
}

#[cfg(test)]
mod tests {
    #[test]
    fn this_kernel_says_it() {
        let stated = super::stated().expect("adjtimex");
        assert!(stated.error_us_max >= 0 && stated.error_us >= 0, "{stated:?}");
    }
}
