//! Tables for the grammar of protocol.md 5.1.

use super::*;

fn doc(text: &str) -> Document {
    parse("t.conf", text, &mut ()).unwrap()
}

fn problem(text: &str) -> String {
    parse("t.conf", text, &mut ()).unwrap_err().to_string()
}

fn value(line: &str) -> String {
    let doc = doc(&format!("<source>\n  key {line}\n</source>\n"));
    doc.elements[0].param("key").unwrap().value.clone()
}

#[test]
fn values() {
    for (written, meant) in [
        ("plain text here", "plain text here"),
        ("  padded\t", "padded"),
        ("5 # five", "5"),
        ("a#b", "a#b"),
        ("a\\nb", "a\\nb"),
        (r"/^(?<time>[^ ]* {1,2})$/", r"/^(?<time>[^ ]* {1,2})$/"),
        (r#""quoted # no comment" # comment"#, "quoted # no comment"),
        (r#""a\n\t\"\\\q""#, "a\n\t\"\\q"),
        (r"'it\'s \n \\'", r"it's \n \"),
        ("\"two\nlines\"", "two\nlines"),
        ("\"joined \\\nlines\"", "joined lines"),
        ("[1, 2] # list", "[1, 2]"),
        ("{\"a\": # c\n 1}", "{\"a\": \n 1}"),
        ("[\"]#\"]", "[\"]#\"]"),
        ("# only a comment", "true"),
        ("", "true"),
    ] {
        assert_eq!(value(written), meant, "{written}");
    }
}

#[test]
fn elements_nest_and_keep_their_order() {
    let doc = doc("\
log_level info
<match oms.** docker.**>  # main
  type a
  @type b
  x 1
  x 2
  <secondary>
    type file
  </secondary>
</match>
<filter \"a>b\">
</filter>\r
<label @X>
</label>
");
    assert_eq!(doc.params[0].value, "info");
    let main = &doc.elements[0];
    assert_eq!(
        (main.name.as_str(), main.arg.as_str()),
        ("match", "oms.** docker.**")
    );
    assert_eq!(main.kind().unwrap().value, "b");
    assert_eq!(main.param("x").unwrap().value, "2");
    assert_eq!(main.param("x").unwrap().place.line, 6);
    assert_eq!(main.children[0].name, "secondary");
    assert_eq!(doc.elements[1].arg, "a>b");
    assert_eq!(doc.elements[2].arg, "@X");
}

#[test]
fn mistakes_name_file_and_line() {
    for (text, wanted) in [
        (
            "\n<source>\n type x\n",
            "t.conf:2: `<source>` is never closed",
        ),
        (
            "<a>\n</b>\n",
            "t.conf:2: `</b>` where `</a>` is due (opened at t.conf:1)",
        ),
        ("</a>\n", "t.conf:1: `</a>` closes nothing"),
        ("<a\n</a>\n", "t.conf:1: `<a` is no element"),
        ("<a-b>\n</a-b>\n", "t.conf:1: `<a-b>` is no element"),
        ("<>\n", "t.conf:1: `<>` is no element"),
        ("<a> type x\n</a>\n", "t.conf:1: `type x` after `>`"),
        (
            "<a>\n k \"x\n</a>\n",
            "t.conf:2: the closing `\"` is missing",
        ),
        ("<a>\n k 'x\n</a>\n", "t.conf:2: the closing `'` is missing"),
        (
            "<a>\n k \"x\" y\n</a>\n",
            "t.conf:2: text after the closing quote",
        ),
        ("<a>\n k [1,\n</a>\n", "t.conf:2: the closing bracket"),
        (
            "<a>\n k [x]\n</a>\n",
            "t.conf:2: a value that begins with `[`",
        ),
        ("@include\n", "t.conf:1: `@include` without a file name"),
    ] {
        let problem = problem(text);
        assert!(problem.starts_with(wanted), "{text:?}: {problem}");
    }
}

#[test]
fn embedded_ruby_is_a_warning() {
    let doc = doc("<a>\n k \"#{ENV['X']}\"\n</a>\n");
    assert_eq!(doc.warnings.len(), 1);
    assert_eq!(doc.elements[0].param("k").unwrap().value, "#{ENV['X']}");
}

#[test]
fn limits() {
    let nested = |n: usize| "<a>\n".repeat(n) + &"</a>\n".repeat(n);
    doc(&nested(DEPTH_LIMIT));
    assert!(problem(&nested(DEPTH_LIMIT + 1)).contains("nested more than"));
    doc(&"k v\n".repeat(NODE_LIMIT));
    assert!(problem(&"k v\n".repeat(NODE_LIMIT + 1)).contains("more than"));
}

#[test]
fn includes_stand_anywhere() {
    struct Two;
    impl Includes for Two {
        fn find(&mut self, file: &str, glob: &str) -> Result<Vec<Included>, String> {
            assert_eq!((file, glob), ("t.conf", "x/*.conf"));
            Ok(vec![
                Included {
                    name: "x/1".into(),
                    text: "a 1\n".into(),
                },
                Included {
                    name: "x/2".into(),
                    text: "<in>\n</in>\n".into(),
                },
            ])
        }
    }
    let doc = parse(
        "t.conf",
        "<source>\n @include x/*.conf\n</source>\n",
        &mut Two,
    )
    .unwrap();
    assert_eq!(
        doc.elements[0].param("a").unwrap().place.to_string(),
        "x/1:1"
    );
    assert_eq!(doc.elements[0].children[0].place.to_string(), "x/2:1");
}

#[test]
fn typed_values() {
    assert_eq!(size("123"), Ok(123));
    assert_eq!(size("15m"), Ok(15 << 20));
    assert_eq!(size("1G"), Ok(1 << 30));
    for bad in ["", "m", "1.5m", "-1", "1x", "99999999999t", "+1"] {
        assert!(size(bad).is_err(), "{bad}");
    }
    assert_eq!(duration("0.5s"), Ok(std::time::Duration::from_millis(500)));
    assert_eq!(duration("10m"), Ok(std::time::Duration::from_secs(600)));
    assert_eq!(duration("30"), Ok(std::time::Duration::from_secs(30)));
    for bad in ["", "s", "-1s", "1e9", "inf", "nan", "4000d", "1w"] {
        assert!(duration(bad).is_err(), "{bad}");
    }
    assert_eq!(boolean("yes"), Ok(true));
    assert_eq!(boolean("false"), Ok(false));
    assert!(boolean("1").is_err());
}

proptest::proptest! {
    #[test]
    fn no_text_brings_it_down(text in "(<[a-z]{0,2} ?[^\n]{0,3}>|</[a-z]{0,2}>|[ -~\n\"'\\\\#{}\\[\\]]{0,12}|\\PC{0,6}|\n){0,30}") {
        let _ = parse("t.conf", &text, &mut ());
    }

    #[test]
    fn what_is_quoted_comes_back(text in "[^\0]{0,40}") {
        let quoted = text.replace('\\', "\\\\").replace('"', "\\\"");
        // Line ends inside quotes are kept, a carriage return before them is not.
        proptest::prop_assume!(!text.contains("\r\n") && !text.ends_with('\r'));
        proptest::prop_assert_eq!(value(&format!("\"{quoted}\"")), text);
    }
}
