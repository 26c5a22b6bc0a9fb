//! Memory of a process as the system counts it: pages that are really there, of everything in the process.

/// Largest number of bytes that were resident at once; `None` where the system does not tell.
pub fn peak() -> Option<usize> {
    parse(&status("self")?, "VmHWM:")
}

/// As [`peak`], of another process so far; `None` also once it has ended.
pub fn peak_of(process: u32) -> Option<usize> {
    parse(&status(&process.to_string())?, "VmHWM:")
}

/// Bytes that are resident now; `None` where the system does not tell.
pub fn now() -> Option<usize> {
    parse(&status("self")?, "VmRSS:")
}

fn status(process: &str) -> Option<String> {
    std::fs::read_to_string(format!("/proc/{process}/status")).ok()
}

/// A line `VmHWM:     1234 kB`, in bytes.
fn parse(status: &str, name: &str) -> Option<usize> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    let kib: usize = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_of_a_process_is_read() {
        let status = "Name:\tvjepa-run\nVmPeak:\t  3000 kB\nVmHWM:\t  2000 kB\nVmRSS:\t  1500 kB\nThreads:\t3\n";
        assert_eq!(parse(status, "VmHWM:"), Some(2000 * 1024));
        assert_eq!(parse(status, "VmRSS:"), Some(1500 * 1024));
        assert_eq!(parse("Name:\tvjepa-run\n", "VmHWM:"), None);
    }

    #[test]
    fn what_was_allocated_is_resident() {
        let Some(before) = now() else {
            eprintln!("skipped: this system does not tell resident memory");
            return;
        };
        let large = std::hint::black_box(vec![1u8; 64 << 20]);
        let most = peak_of(std::process::id());
        assert!(most >= Some(before + (large.len() - (8 << 20))), "{before} bytes before, {most:?} at most");
        assert!(peak() >= most);
    }
}
