//! What an output makes of its items: the three ways to the service (protocol.md 3.1, 3.10, 3.11).

use super::reader::Reader;
use crate::agent::queue::frame::Kind;
use crate::settings::fluent::Problem;
use std::borrow::Cow;
use std::path::Path;

/// Longest name in a frame, bytes.
const NAME_LIMIT: usize = 255;

/// The way of an output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Form {
    /// `out_oms`: records with `DataType` and `IPName`, in an envelope.
    Items,
    /// `out_oms_api`: a list of records of one log type.
    Records {
        /// `api_version`.
        version: String,
        /// `time_generated_field`, unless the tag says one.
        time_field: String,
    },
    /// `out_oms_blob`: lines, appended to a blob.
    Blob {
        /// `blob_uri_expiry`, `hh:mm:ss`.
        expiry: String,
    },
}

impl Form {
    /// Of a plug-in, with nothing filled in; `None`: it is no output of ours.
    pub(super) fn of(plugin: &str) -> Option<Form> {
        Some(match plugin {
            "out_oms" => Form::Items,
            "out_oms_api" => Form::Records {
                version: String::new(),
                time_field: String::new(),
            },
            "out_oms_blob" => Form::Blob {
                expiry: String::new(),
            },
            _ => return None,
        })
    }

    pub(super) fn filled(self, read: &Reader<'_>) -> Result<Form, Problem> {
        let plain = |key, text: &str| {
            let good = |c: char| c.is_ascii_graphic() && !matches!(c, '&' | '#' | '?');
            let good = text.len() <= NAME_LIMIT && text.chars().all(good);
            good.then(|| text.to_owned())
                .ok_or_else(|| read.wrong(key, "letters, digits and dashes"))
        };
        Ok(match self {
            Form::Items => Form::Items,
            Form::Records { .. } => Form::Records {
                version: plain("api_version", read.text("api_version")?)?,
                time_field: match read.written("time_generated_field") {
                    Some(p) => plain("time_generated_field", &p.value)?,
                    None => String::new(),
                },
            },
            Form::Blob { .. } => Form::Blob {
                expiry: plain("blob_uri_expiry", read.text("blob_uri_expiry")?)?,
            },
        })
    }

    /// Most bytes of items in one request. A blob's is four requests, so it is worth more.
    pub(super) fn request_limit(&self) -> u64 {
        match self {
            Form::Items | Form::Records { .. } => 1 << 20,
            Form::Blob { .. } => 2 << 20,
        }
    }

    /// Name of its status file and of the operation in it (protocol.md 3.2).
    pub fn operation(&self) -> &'static str {
        match self {
            Form::Items => "ODSIngestion",
            Form::Records { .. } => "ODSIngestionAPI",
            Form::Blob { .. } => "ODSIngestionBlob",
        }
    }

    /// How a frame of such an output is named for lines of the file at `path` with that tag; or why
    /// they cannot be sent by it, for people.
    ///
    /// `Records`: log type and time field. `Blob`: `<ContainerType>.<DataType>.<CustomDataType>` and
    /// the file's path, of a very long one its end.
    pub fn kind(&self, tag: &str, path: &Path) -> Result<Kind, String> {
        let parts: Vec<&str> = tag.split('.').collect();
        let kind = |data_type: &str, ip_name: &str| Kind {
            data_type: Cow::Owned(data_type.to_owned()),
            ip_name: Cow::Owned(ip_name.to_owned()),
        };
        match self {
            Form::Items => Err(
                "an `out_oms` takes only records with a DataType; lines go to an `out_oms_blob` \
                 (tag `oms.blob.CustomLog.CUSTOM_LOG_BLOB.<Name>_CL_<workspace>.*`) or an `out_oms_api` \
                 (tag `oms.api.<LogType>`)"
                    .into(),
            ),
            Form::Records { time_field, .. } => {
                let [_, _, log_type, rest @ ..] = &parts[..] else {
                    return Err("the tag does not have at least 3 parts `oms.api.<LogType>`".into());
                };
                let letters = |c: char| c.is_ascii_alphanumeric() || c == '_';
                let valid = log_type.starts_with(|c: char| c.is_ascii_alphabetic())
                    && (2..=101).contains(&log_type.len())
                    && log_type.chars().all(letters);
                if !valid {
                    return Err(format!(
                        "the log type '{log_type}' is not valid: it must be a letter and then 1 to 100 letters, digits or underscores"
                    ));
                }
                match rest {
                    [field] => Ok(kind(log_type, field)),
                    _ => Ok(kind(log_type, time_field)),
                }
            }
            Form::Blob { .. } => {
                if parts.len() < 4 {
                    return Err(
                        "the tag does not have at least 4 parts `oms.blob.<ContainerType>.<DataType>`"
                            .into(),
                    );
                }
                let name = parts[2..parts.len().min(5)].join(".");
                if name.len() > NAME_LIMIT {
                    return Err(format!("its type is longer than {NAME_LIMIT} bytes"));
                }
                let path = path.to_string_lossy();
                let mut from = path.len().saturating_sub(NAME_LIMIT);
                while !path.is_char_boundary(from) {
                    from += 1;
                }
                Ok(kind(&name, &path[from..]))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(form: &Form, tag: &str, path: &str) -> Result<(String, String), String> {
        let kind = form.kind(tag, Path::new(path))?;
        Ok((kind.data_type.into_owned(), kind.ip_name.into_owned()))
    }

    #[test]
    fn tags_say_where_lines_go() {
        let blob = Form::Blob {
            expiry: "00:10:00".into(),
        };
        let tag = "oms.blob.CustomLog.CUSTOM_LOG_BLOB.App_CL_ws.*";
        let pair = |a: &str, b: &str| Ok((a.to_owned(), b.to_owned()));
        let custom = "CustomLog.CUSTOM_LOG_BLOB.App_CL_ws";
        assert_eq!(
            name(&blob, tag, "/var/log/a.log"),
            pair(custom, "/var/log/a.log")
        );
        assert_eq!(
            name(&blob, "oms.blob.CustomLog.X", "/a"),
            pair("CustomLog.X", "/a")
        );
        assert!(name(&blob, "oms.blob.CustomLog", "/a").is_err());
        let long = format!("/{}", "\u{e9}".repeat(200));
        let (_, path) = name(&blob, tag, &long).unwrap();
        assert!(path.len() <= NAME_LIMIT && long.ends_with(&path));
        let api = Form::Records {
            version: "2016-04-01".into(),
            time_field: "when".into(),
        };
        assert_eq!(name(&api, "oms.api.App", "/a"), pair("App", "when"));
        assert_eq!(name(&api, "oms.api.App.time", "/a"), pair("App", "time"));
        assert_eq!(name(&api, "oms.api.App.a.b", "/a"), pair("App", "when"));
        let at_limit = format!("oms.api.A{}", "b".repeat(100));
        assert!(name(&api, &at_limit, "/a").is_ok());
        for bad in [
            "oms.api",
            "oms.api.1abc",
            "oms.api.a",
            "oms.api.a-b",
            &format!("{at_limit}b"),
        ] {
            assert!(name(&api, bad, "/a").is_err(), "{bad}");
        }
        assert!(name(&Form::Items, "oms.api.App", "/a").is_err());
    }
}
