//! This process's command line, as every other process can read it.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;

/// Shorter words are not looked for: they would be parts of others.
const SHORTEST: usize = 4;

/// Overwrites `secrets` in the command line. True when none of them is there any more: the system's
/// journal keeps the command line of whoever writes to it. Words must have been read before.
pub fn hide(secrets: &[&str]) -> bool {
    let _ = overwrite(secrets);
    let Ok(line) = fs::read("/proc/self/cmdline") else {
        return false;
    };
    !secrets
        .iter()
        .any(|s| !s.is_empty() && find(&line, s, 0).is_some())
}

fn overwrite(secrets: &[&str]) -> io::Result<()> {
    let line = fs::read("/proc/self/cmdline")?;
    let stat = fs::read_to_string("/proc/self/stat")?;
    // Behind the name, which may hold anything, the third field is the first; the 48th says where
    // the words begin (proc_pid_stat(5)).
    let fields = stat.rsplit_once(')').map(|(_, rest)| rest);
    let start = fields.and_then(|rest| rest.split_whitespace().nth(45)?.parse::<u64>().ok());
    let start = start.filter(|start| *start != 0);
    let start = start.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))?;
    let memory = OpenOptions::new().write(true).open("/proc/self/mem")?;
    for secret in secrets.iter().filter(|s| s.len() >= SHORTEST) {
        let mut from = 0;
        while let Some(at) = find(&line, secret, from) {
            memory.write_all_at(&vec![b'*'; secret.len()], start + at as u64)?;
            from = at + secret.len();
        }
    }
    Ok(())
}

fn find(line: &[u8], secret: &str, from: usize) -> Option<usize> {
    let rest = line.get(from..)?;
    let at = rest
        .windows(secret.len())
        .position(|w| w == secret.as_bytes())?;
    Some(from + at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_of_the_command_line_goes_and_nothing_else() {
        assert!(hide(&["no-such-word-is-there", ""]));
        let before = fs::read("/proc/self/cmdline").unwrap();
        let first = before.split(|b| *b == 0).next().unwrap();
        let program = String::from_utf8(first.to_vec()).unwrap();
        let word = &program[program.len() - 8..];
        assert!(hide(&[word]));
        let after = fs::read("/proc/self/cmdline").unwrap();
        assert_eq!(after.len(), before.len());
        assert!(after.windows(8).any(|w| w == b"********"));
        assert!(find(&after, word, 0).is_none());
        assert!(!hide(&[&program[..1]]), "too short to be told from others");
    }
}
