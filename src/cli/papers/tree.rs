//! What can be typed, as a tree of tools: read from clap's commands and from the older doors' tables.

use crate::cli::grammar::{Grammar, Words};

/// A command, or one of its subcommands.
#[derive(Debug, Clone, Default)]
pub struct Tool {
    /// The word.
    pub name: String,
    /// What it does, in one line.
    pub about: String,
    /// How it is called, a line each.
    pub synopsis: Vec<String>,
    /// Its options.
    pub options: Vec<Opt>,
    /// What stands behind them, in this order.
    pub operands: Vec<Operand>,
    /// Its subcommands.
    pub tools: Vec<Tool>,
    /// Examples and the like.
    pub after: String,
}

/// An option.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Opt {
    /// `-w`, `--id`: with their dashes.
    pub spellings: Vec<String>,
    /// What has to follow.
    pub value: Option<Value>,
    /// What it does.
    pub text: String,
}

/// A word that is no option.
#[derive(Debug, Clone, PartialEq)]
pub struct Operand {
    /// What it is.
    pub value: Value,
    /// What it is for.
    pub text: String,
}

/// Something to be filled in.
#[derive(Debug, Clone, PartialEq)]
pub struct Value {
    /// `FILE`
    pub name: String,
    /// What can be offered for it.
    pub kind: Kind,
}

/// What can be offered for a value.
#[derive(Debug, Clone, PartialEq)]
pub enum Kind {
    /// Nothing.
    Any,
    /// Files.
    File,
    /// Folders.
    Folder,
    /// Workspaces of this host.
    Workspace,
    /// One of these.
    Words(Vec<String>),
}

impl Kind {
    /// Guessed from the name of the value, which is one for the whole program.
    fn of(name: &str) -> Kind {
        if name.contains('|') && name.chars().all(|c| c.is_ascii_lowercase() || c == '|') {
            return Kind::Words(name.split('|').map(str::to_owned).collect());
        }
        // `ARCH=FILE` and `FILE|KEY` begin and end with something else.
        match name {
            "FILE" | "FILE|-" | "FILE|KEY" | "PIDFILE" => Kind::File,
            "DIR" | "FOLDER" => Kind::Folder,
            "ID" | "WORKSPACE" => Kind::Workspace,
            _ => Kind::Any,
        }
    }
}

impl Value {
    fn of(name: &str) -> Value {
        Value {
            kind: Kind::of(name),
            name: name.to_owned(),
        }
    }
}

impl Tool {
    /// From clap's command; what is hidden is left out. `older` are the doors that clap only passes
    /// words on to.
    pub fn of_command(command: &mut clap::Command, older: &[(&str, &Grammar)]) -> Tool {
        // Clap adds `--help` and complete usage lines only now.
        command.build();
        Tool::read(command, older)
    }

    fn read(command: &clap::Command, older: &[(&str, &Grammar)]) -> Tool {
        let usage = command.clone().render_usage().to_string();
        let usage = usage.trim_start_matches("Usage:");
        let mut tool = Tool {
            name: command.get_name().to_owned(),
            about: command
                .get_about()
                .map(ToString::to_string)
                .unwrap_or_default(),
            synopsis: usage.lines().map(|l| l.trim().to_owned()).collect(),
            after: command
                .get_after_help()
                .map(ToString::to_string)
                .unwrap_or_default(),
            ..Tool::default()
        };
        for arg in command.get_arguments().filter(|arg| !arg.is_hide_set()) {
            tool.take(arg);
        }
        let below = command.get_subcommands();
        for sub in below.filter(|sub| !sub.is_hide_set() && sub.get_name() != "help") {
            let grammar = older.iter().find(|(name, _)| *name == sub.get_name());
            let about = sub.get_about().map(ToString::to_string);
            tool.tools.push(match grammar {
                Some((name, grammar)) => Tool {
                    name: (*name).to_owned(),
                    about: about.unwrap_or_default(),
                    ..Tool::of_grammar(grammar)
                },
                None => Tool::read(sub, &[]),
            });
        }
        tool
    }

    fn take(&mut self, arg: &clap::Arg) {
        let mut text = arg.get_help().map(ToString::to_string).unwrap_or_default();
        let possible = arg.get_possible_values();
        let possible: Vec<String> = possible.iter().map(|v| v.get_name().to_owned()).collect();
        let takes = arg.get_action().takes_values();
        let defaults = arg.get_default_values().iter();
        let defaults: Vec<_> = defaults.map(|v| v.to_string_lossy()).collect();
        if takes && !defaults.is_empty() {
            text.push_str(&format!(" [default: {}]", defaults.join(" ")));
        }
        let name = arg.get_value_names().and_then(|names| names.first());
        let name = name.map_or_else(|| arg.get_id().as_str().to_uppercase(), ToString::to_string);
        let value = match possible.is_empty() {
            true => Value::of(&name),
            false => Value {
                kind: Kind::Words(possible),
                name,
            },
        };
        if arg.is_positional() {
            self.operands.push(Operand { value, text });
            return;
        }
        let short = arg.get_short().map(|c| format!("-{c}"));
        let long = arg.get_long().map(|name| format!("--{name}"));
        self.options.push(Opt {
            spellings: short.into_iter().chain(long).collect(),
            value: takes.then_some(value),
            text,
        });
    }

    /// From an older door's table: rows of options, and rows of words.
    pub fn of_grammar(grammar: &Grammar) -> Tool {
        let mut tool = Tool {
            name: grammar.name.to_owned(),
            about: grammar.about.to_owned(),
            synopsis: grammar.synopsis.iter().map(|l| (*l).to_owned()).collect(),
            ..Tool::default()
        };
        for (row, text) in grammar.rows() {
            let words = Words::of(row);
            let owned = |w: &&str| (*w).to_owned();
            if words.is_option() {
                let known = |o: &Opt| {
                    o.spellings
                        .iter()
                        .any(|s| words.spellings.contains(&s.as_str()))
                };
                if !tool.options.iter().any(known) {
                    tool.options.push(Opt {
                        spellings: words.spellings.iter().map(owned).collect(),
                        value: words.values.first().map(|name| Value::of(name)),
                        text: (*text).to_owned(),
                    });
                }
                continue;
            }
            for name in &words.spellings {
                let operands = words.values.iter().map(|name| Operand {
                    value: Value::of(name),
                    text: String::new(),
                });
                tool.tools.push(Tool {
                    name: (*name).to_owned(),
                    about: (*text).to_owned(),
                    operands: operands.collect(),
                    ..Tool::default()
                });
            }
        }
        tool
    }

    /// Every tool of the tree with the words that lead to it.
    pub fn walk(&self, each: &mut dyn FnMut(&str, &Tool)) {
        self.walk_below(&self.name, each);
    }

    fn walk_below(&self, path: &str, each: &mut dyn FnMut(&str, &Tool)) {
        each(path, self);
        for tool in &self.tools {
            tool.walk_below(&format!("{path} {}", tool.name), each);
        }
    }
}
