//! What is found, what is refused, and that no search is long.

use super::*;

fn finds(regex: &str, text: &str) -> bool {
    Regex::new(regex).unwrap().finds(text)
}

#[test]
fn what_configurations_say() {
    for (regex, yes, no) in [
        (".*", &["", "a", "/boot"][..], &[][..]),
        ("", &["", "a"], &[]),
        ("_Total", &["_Total", "x_Totaly"], &["_total", "Total"]),
        ("/", &["/", "/boot"], &["_Total"]),
        ("^/$", &["/", "x\n/\ny"], &["/boot", "//"]),
        (
            "%|Disk",
            &["% Free Space", "Disk Reads/sec"],
            &["Free Megabytes"],
        ),
        (
            "(% Processor Time|% Privileged Time)",
            &["% Processor Time"],
            &["% Idle Time", "%Processor Time"],
        ),
        (
            "^(eth|ens)[0-9]+$",
            &["eth0", "ens192"],
            &["eth", "veth0", "eth0.1"],
        ),
        ("eth\\d", &["eth0"], &["eth", "ethd"]),
        (
            "sd[a-c]|vd[^b]",
            &["sda", "sdc", "vda"],
            &["sdd", "vdb", "vd"],
        ),
        ("a.c", &["abc", "a.c"], &["ac", "a\nc"]),
        ("a\\.c", &["a.c"], &["abc"]),
        ("x{2,3}$", &["xx", "yxxx"], &["x", "xy"]),
        ("^x{2}$", &["xx"], &["xxx"]),
        ("^x{2,}$", &["xxxx"], &["x"]),
        ("^x{,2}$", &["", "xx"], &["xxx"]),
        ("^a{x}$", &["a{x}"], &["a"]),
        ("^(?:ab)+?c?$", &["abab", "abc"], &["a", "cab"]),
        ("^(a*)*$", &["", "aaa"], &["b"]),
        ("^(a|)+$", &["", "aa"], &["b"]),
        ("\\Aa\\z", &["a"], &["a\n", "\na"]),
        ("a\\Z", &["a", "a\n"], &["ab", "a\nb"]),
        ("[]x]", &["]", "x"], &["y"]),
        ("[^]x]", &["y"], &["]", "x"]),
        ("[a\\-z]", &["-", "z"], &["b"]),
        ("[a-]", &["-", "a"], &["b"]),
        ("[\\d_]", &["7", "_"], &["x"]),
        ("^\\S+$", &["abc"], &["a b", ""]),
        ("[é-í]", &["ê"], &["a"]),
    ] {
        for text in yes {
            assert!(finds(regex, text), "{regex} in {text:?}");
        }
        for text in no {
            assert!(!finds(regex, text), "{regex} not in {text:?}");
        }
    }
}

#[test]
fn what_cannot_be_read_is_said() {
    for (regex, wanted) in [
        ("(", "`(` has no other half"),
        ("a)", "`)` has no other half"),
        ("[a", "`[` has no other half"),
        ("[a-", "`[` has no other half"),
        ("*a", "nothing stands before `*`"),
        ("a|+", "nothing stands before `+`"),
        ("[z-a]", "a range ends before it begins"),
        ("a{3,1}", "a range ends before it begins"),
        ("(?!lo)", "`(?!` is not understood here"),
        ("(?i)x", "`(?i` is not understood here"),
        ("a++", "`++` is not understood here"),
        ("[[:alpha:]]", "`[ in [` is not understood here"),
        ("[a&&b]", "`&& in [` is not understood here"),
        ("[\\D]", "`an opposite in [` is not understood here"),
        ("(a)\\1", "`\\1` is not understood here"),
        ("\\p{L}", "`\\p` is not understood here"),
        ("\\", "`\\ at the end` is not understood here"),
    ] {
        assert_eq!(
            Regex::new(regex).unwrap_err().to_string(),
            wanted,
            "{regex}"
        );
    }
}

#[test]
fn limits_hold_at_the_edge() {
    let groups = |n: usize| format!("{}{}", "(".repeat(n), ")".repeat(n));
    for (good, bad) in [
        // One step is the end's.
        ("a".repeat(PROGRAM_LIMIT), "a".repeat(PROGRAM_LIMIT + 1)),
        (groups(DEPTH_LIMIT), groups(DEPTH_LIMIT + 1)),
        ("a{255}".into(), "a{256}".into()),
        (
            // In one set: long, and a single step.
            format!("[{}]", "a".repeat(LENGTH_LIMIT - 2)),
            format!("[{}]", "a".repeat(LENGTH_LIMIT - 1)),
        ),
    ] {
        assert!(Regex::new(&good).is_ok(), "{} bytes", good.len());
        let error = Regex::new(&bad).unwrap_err();
        assert!(matches!(error, Unreadable::TooMuch(_)), "{error}");
    }
    let error = Regex::new("((a{100}){100}){100}").unwrap_err();
    assert_eq!(error.to_string(), "it is too large");
}

/// A backtracking search would need 2^n steps for these.
#[test]
fn no_expression_makes_a_search_long() {
    let text = "a".repeat(4000);
    for regex in ["(a*)*b", "(a|a)*b", "(a+)+$b", "(x?){60}a{60}b"] {
        assert!(!finds(regex, &text), "{regex}");
    }
    let nothing = (0..20).fold("()".to_owned(), |inner, _| format!("({inner}){{255}}"));
    assert!(finds(&nothing, ""));
}
