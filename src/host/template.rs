//! Filling the texts of `templates/host/`: `%NAME%` gives way to a value.

/// `template` with each `%NAME%` replaced. Values are put in once and not searched again.
pub(super) fn fill(template: &str, values: &[(&str, &str)]) -> String {
    let mut text = String::with_capacity(template.len() + 256);
    let mut rest = template;
    'next: while let Some(at) = rest.find('%') {
        text.push_str(&rest[..at]);
        rest = &rest[at..];
        for (name, value) in values {
            if let Some(after) = rest.strip_prefix(name) {
                text.push_str(value);
                rest = after;
                continue 'next;
            }
        }
        text.push('%');
        rest = &rest[1..];
    }
    text.push_str(rest);
    text
}

#[cfg(test)]
mod tests {
    use super::fill;

    #[test]
    fn values_are_put_in_once() {
        let text = fill("a %X% 5% %Y% %Z%", &[("%X%", "%Y%"), ("%Y%", "2")]);
        assert_eq!(text, "a %Y% 5% 2 %Z%");
    }
}
