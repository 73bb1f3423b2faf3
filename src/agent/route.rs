//! Tags and the patterns that take them (protocol.md 5.2).

/// How deep `{a,{b,c}}` and repeated braces may go before a pattern is refused.
const ALTERNATIVES_LIMIT: usize = 256;

/// The argument of a `<match>` or `<filter>`: patterns separated by blanks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    /// Alternatives, each cut at its dots.
    choices: Vec<Vec<String>>,
}

impl Pattern {
    /// Reads it; `None` when it is empty or has too many alternatives.
    pub fn parse(text: &str) -> Option<Pattern> {
        let mut choices = Vec::new();
        for word in text.split_whitespace() {
            expand(word, &mut choices)?;
        }
        let choices: Vec<Vec<String>> = choices
            .iter()
            .map(|c| c.split('.').map(str::to_owned).collect())
            .collect();
        (!choices.is_empty()).then_some(Pattern { choices })
    }

    /// Does it take this tag?
    pub fn takes(&self, tag: &str) -> bool {
        let parts: Vec<&str> = tag.split('.').collect();
        self.choices.iter().any(|choice| fits(choice, &parts))
    }
}

/// Writes out `{a,b}`.
fn expand(word: &str, into: &mut Vec<String>) -> Option<()> {
    let open = word.find('{');
    let close = open.and_then(|o| word[o..].find('}').map(|c| o + c));
    let (Some(open), Some(close)) = (open, close) else {
        into.push(word.to_owned());
        return (into.len() <= ALTERNATIVES_LIMIT).then_some(());
    };
    for choice in word[open + 1..close].split(',') {
        let whole = format!("{}{choice}{}", &word[..open], &word[close + 1..]);
        expand(&whole, into)?;
    }
    Some(())
}

fn fits(pattern: &[String], parts: &[&str]) -> bool {
    let Some((first, rest)) = pattern.split_first() else {
        return parts.is_empty();
    };
    if first == "**" {
        return (0..=parts.len()).any(|n| fits(rest, &parts[n..]));
    }
    let Some((part, others)) = parts.split_first() else {
        return false;
    };
    if let Some(prefix) = first.strip_suffix("**") {
        // Text, then anything: `Apache**` takes `ApacheAccess.time`.
        return wild(&format!("{prefix}*"), part)
            && (0..=others.len()).any(|n| fits(rest, &others[n..]));
    }
    wild(first, part) && fits(rest, others)
}

/// `*` inside one part.
fn wild(pattern: &str, part: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == part,
        Some((before, after)) => part.strip_prefix(before).is_some_and(|rest| {
            rest.char_indices()
                .map(|(i, _)| i)
                .chain([rest.len()])
                .any(|i| wild(after, &rest[i..]))
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        for (pattern, tag, wanted) in [
            ("oms.** docker.**", "oms.syslog.auth.info", true),
            ("oms.** docker.**", "docker.x", true),
            ("oms.** docker.**", "diag.oms", false),
            ("a.**", "a", true),
            ("a.**", "a.b.c", true),
            ("a.**", "ab", false),
            ("a.*", "a.b", true),
            ("a.*", "a", false),
            ("a.*", "a.b.c", false),
            ("**", "anything.at.all", true),
            ("a.**.z", "a.z", true),
            ("a.**.z", "a.b.c.z", true),
            ("a.{x,y}.b", "a.y.b", true),
            ("a.{x,y}.b", "a.z.b", false),
            ("oms.{health,heartbeat}.**", "oms.heartbeat", true),
            ("oms.api.Apache**", "oms.api.ApacheAccess.time", true),
            ("oms.api.Apache**", "oms.api.MySQL", false),
            ("oms.sys*.x", "oms.syslog.x", true),
            ("oms.syslog.*.warn", "oms.syslog..warn", true),
            ("{a", "{a", true),
        ] {
            assert_eq!(
                Pattern::parse(pattern).unwrap().takes(tag),
                wanted,
                "{pattern} {tag}"
            );
        }
        assert!(Pattern::parse("  ").is_none());
        assert!(Pattern::parse(&"{a,b}".repeat(8)).is_some());
        assert!(Pattern::parse(&"{a,b}".repeat(9)).is_none());
    }
}
