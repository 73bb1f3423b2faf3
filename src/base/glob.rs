//! Shell patterns: `*`, `?`, `[a-z]`, `{a,b}`, in one part of a path.

/// Does `name` fit a shell pattern of `*`, `?`, `[a-z]`, `{a,b}`? `steps` bounds the work.
pub fn fits(pattern: &[u8], name: &[u8], steps: &mut u32) -> bool {
    if *steps == 0 {
        return false;
    }
    *steps -= 1;
    let Some((&first, rest)) = pattern.split_first() else {
        return name.is_empty();
    };
    match first {
        b'*' => (0..=name.len()).any(|i| fits(rest, &name[i..], steps)),
        b'?' => !name.is_empty() && fits(rest, &name[1..], steps),
        b'[' => {
            let Some(end) = rest.iter().skip(1).position(|&b| b == b']').map(|i| i + 1) else {
                return literal(first, rest, name, steps);
            };
            let (set, after) = (&rest[..end], &rest[end + 1..]);
            let (negated, set) = match set.first() {
                Some(b'!' | b'^') => (true, &set[1..]),
                _ => (false, set),
            };
            !name.is_empty() && in_set(set, name[0]) != negated && fits(after, &name[1..], steps)
        }
        b'{' => {
            let Some(end) = rest.iter().position(|&b| b == b'}') else {
                return literal(first, rest, name, steps);
            };
            let after = &rest[end + 1..];
            rest[..end].split(|&b| b == b',').any(|choice| {
                let whole: Vec<u8> = [choice, after].concat();
                fits(&whole, name, steps)
            })
        }
        _ => literal(first, rest, name, steps),
    }
}

fn literal(first: u8, rest: &[u8], name: &[u8], steps: &mut u32) -> bool {
    name.first() == Some(&first) && fits(rest, &name[1..], steps)
}

fn in_set(set: &[u8], byte: u8) -> bool {
    let mut i = 0;
    while i < set.len() {
        if i + 2 < set.len() && set[i + 1] == b'-' {
            if (set[i]..=set[i + 2]).contains(&byte) {
                return true;
            }
            i += 3;
        } else {
            if set[i] == byte {
                return true;
            }
            i += 1;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shell_patterns() {
        for (pattern, name, wanted) in [
            ("*.conf", "a.conf", true),
            ("*.conf", "a.conf.bak", false),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("[a-c]x", "bx", true),
            ("[!a-c]x", "bx", false),
            ("[!a-c]x", "dx", true),
            ("{syslog,heartbeat}.conf", "heartbeat.conf", true),
            ("{syslog,heartbeat}.conf", "monitor.conf", false),
            ("[x", "[x", true),
            (
                "*****************a",
                "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb",
                false,
            ),
        ] {
            assert_eq!(
                fits(pattern.as_bytes(), name.as_bytes(), &mut 100_000),
                wanted,
                "{pattern} {name}"
            );
        }
    }
}
