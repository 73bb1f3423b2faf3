//! The regular expressions of `instance_regex` and `counter_name_regex` (protocol.md 3.7): searched
//! for anywhere in a name, case-sensitive.
//!
//! Understood: characters, `.`, `[...]`, `(...)`, `(?:...)`, `|`, `*`, `+`, `?`, `{m,n}` (and their lazy
//! forms), `^`, `$`, `\A`, `\z`, `\Z`, `\d`, `\w`, `\s`, their opposites, and a backslash before a sign.
//! A search takes time in proportion to the name's length and the expression's, whatever both say.

/// Longest expression, bytes.
pub const LENGTH_LIMIT: usize = 4096;
/// Groups in groups.
const DEPTH_LIMIT: usize = 32;
/// Largest number in `{m,n}`.
const COUNT_LIMIT: u32 = 255;
/// Most steps of the program that an expression becomes.
const PROGRAM_LIMIT: usize = 2048;

/// An expression that can be searched for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Regex {
    program: Vec<Step>,
}

/// Why an expression cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// A bracket without its other half.
    #[error("`{0}` has no other half")]
    Unbalanced(char),
    /// `*`, `+`, `?` with nothing before it.
    #[error("nothing stands before `{0}`")]
    NothingToRepeat(char),
    /// `[z-a]`, `{3,1}`.
    #[error("a range ends before it begins")]
    Backwards,
    /// What Ruby knows and this does not.
    #[error("`{0}` is not understood here")]
    Unsupported(String),
    /// Beyond a limit.
    #[error("it is too {0}")]
    TooMuch(&'static str),
}

/// Ranges of characters.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Set {
    ranges: Vec<(char, char)>,
    others: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    LineStart,
    LineEnd,
    Start,
    End,
    LastLineEnd,
}

#[derive(Debug, Clone)]
enum Node {
    One(Set),
    At(Place),
    All(Vec<Node>),
    Any(Vec<Node>),
    Repeat(Box<Node>, u32, Option<u32>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    One(Set),
    At(Place),
    Fork(usize, usize),
    Jump(usize),
    Found,
}

impl Regex {
    /// Reads an expression.
    pub fn new(text: &str) -> Result<Regex, Unreadable> {
        if text.len() > LENGTH_LIMIT {
            return Err(Unreadable::TooMuch("long"));
        }
        let mut parser = Parser {
            rest: text.chars().collect(),
            at: 0,
        };
        let node = parser.alternatives(0)?;
        if let Some(c) = parser.next() {
            return Err(Unreadable::Unbalanced(c));
        }
        let mut program = Vec::new();
        compile(&node, &mut program)?;
        program.push(Step::Found);
        Ok(Regex { program })
    }

    /// Is it anywhere in `text`?
    pub fn finds(&self, text: &str) -> bool {
        let mut now = States::new(self.program.len());
        let mut next = States::new(self.program.len());
        let mut before = None;
        let mut chars = text.chars().peekable();
        loop {
            let here = chars.peek().copied();
            let last = here == Some('\n') && chars.clone().nth(1).is_none();
            let around = Around { before, here, last };
            // Every place may be where it begins.
            if now.add(0, &self.program, around) {
                return true;
            }
            let Some(c) = chars.next() else { return false };
            next.clear();
            let mut after = chars.clone();
            let here = after.next();
            let around = Around {
                before: Some(c),
                here,
                last: here == Some('\n') && after.next().is_none(),
            };
            for &step in &now.list {
                if let Step::One(set) = &self.program[step]
                    && set.has(c)
                    && next.add(step + 1, &self.program, around)
                {
                    return true;
                }
            }
            std::mem::swap(&mut now, &mut next);
            before = Some(c);
        }
    }
}

/// What stands around a place between two characters.
#[derive(Clone, Copy)]
struct Around {
    before: Option<char>,
    here: Option<char>,
    /// `here` is the line feed that ends the text.
    last: bool,
}

impl Around {
    fn is(self, place: Place) -> bool {
        match place {
            Place::LineStart => self.before.is_none_or(|c| c == '\n'),
            Place::LineEnd => self.here.is_none_or(|c| c == '\n'),
            Place::Start => self.before.is_none(),
            Place::End => self.here.is_none(),
            Place::LastLineEnd => self.here.is_none() || self.last,
        }
    }
}

/// Steps that a search stands at, each once.
struct States {
    list: Vec<usize>,
    seen: Vec<bool>,
}

impl States {
    fn new(length: usize) -> States {
        States {
            list: Vec::new(),
            seen: vec![false; length],
        }
    }

    fn clear(&mut self) {
        self.list.clear();
        self.seen.fill(false);
    }

    /// Goes on from `step` as far as no character is needed; true when that is the end.
    fn add(&mut self, step: usize, program: &[Step], around: Around) -> bool {
        let mut open = vec![step];
        while let Some(step) = open.pop() {
            if std::mem::replace(&mut self.seen[step], true) {
                continue;
            }
            match &program[step] {
                Step::Found => return true,
                Step::One(_) => self.list.push(step),
                Step::Jump(to) => open.push(*to),
                Step::Fork(a, b) => open.extend([*b, *a]),
                Step::At(place) if around.is(*place) => open.push(step + 1),
                Step::At(_) => {}
            }
        }
        false
    }
}

impl Set {
    fn has(&self, c: char) -> bool {
        let inside = self.ranges.iter().any(|&(a, b)| (a..=b).contains(&c));
        inside != self.others
    }

    fn one(c: char) -> Set {
        Set {
            ranges: vec![(c, c)],
            others: false,
        }
    }

    /// `\d` and the like.
    fn class(letter: char) -> Option<Set> {
        let ranges: &[(char, char)] = match letter.to_ascii_lowercase() {
            'd' => &[('0', '9')],
            'w' => &[('0', '9'), ('A', 'Z'), ('_', '_'), ('a', 'z')],
            's' => &[('\t', '\r'), (' ', ' ')],
            _ => return None,
        };
        Some(Set {
            ranges: ranges.to_vec(),
            others: letter.is_ascii_uppercase(),
        })
    }
}

struct Parser {
    rest: Vec<char>,
    at: usize,
}

impl Parser {
    fn peek(&self) -> Option<char> {
        self.rest.get(self.at).copied()
    }

    fn next(&mut self) -> Option<char> {
        let c = self.peek();
        self.at += usize::from(c.is_some());
        c
    }

    fn take(&mut self, c: char) -> bool {
        let there = self.peek() == Some(c);
        self.at += usize::from(there);
        there
    }

    fn alternatives(&mut self, depth: usize) -> Result<Node, Unreadable> {
        if depth > DEPTH_LIMIT {
            return Err(Unreadable::TooMuch("deep"));
        }
        let mut choices = vec![self.sequence(depth)?];
        while self.take('|') {
            choices.push(self.sequence(depth)?);
        }
        Ok(Node::Any(choices))
    }

    fn sequence(&mut self, depth: usize) -> Result<Node, Unreadable> {
        let mut nodes = Vec::new();
        while let Some(c) = self.peek().filter(|c| !matches!(c, '|' | ')')) {
            if matches!(c, '*' | '+' | '?') {
                return Err(Unreadable::NothingToRepeat(c));
            }
            self.at += 1;
            let mut node = self.atom(c, depth)?;
            while let Some((least, most)) = self.repetition()? {
                node = Node::Repeat(Box::new(node), least, most);
            }
            nodes.push(node);
        }
        Ok(Node::All(nodes))
    }

    fn atom(&mut self, c: char, depth: usize) -> Result<Node, Unreadable> {
        Ok(match c {
            '(' => {
                if self.take('?') && !self.take(':') {
                    let kind: String = self.rest[self.at..].iter().take(1).collect();
                    return Err(Unreadable::Unsupported(format!("(?{kind}")));
                }
                let inner = self.alternatives(depth + 1)?;
                if !self.take(')') {
                    return Err(Unreadable::Unbalanced('('));
                }
                inner
            }
            '[' => Node::One(self.class()?),
            '.' => Node::One(Set {
                ranges: vec![('\n', '\n')],
                others: true,
            }),
            '^' => Node::At(Place::LineStart),
            '$' => Node::At(Place::LineEnd),
            '\\' => match self.next() {
                Some('A') => Node::At(Place::Start),
                Some('z') => Node::At(Place::End),
                Some('Z') => Node::At(Place::LastLineEnd),
                other => Node::One(escaped(other)?),
            },
            other => Node::One(Set::one(other)),
        })
    }

    /// `[...]`, of which the opening is taken.
    fn class(&mut self) -> Result<Set, Unreadable> {
        let others = self.take('^');
        let mut ranges: Vec<(char, char)> = Vec::new();
        let mut first = true;
        loop {
            let set = match self.next() {
                None => return Err(Unreadable::Unbalanced('[')),
                Some(']') if !first => return Ok(Set { ranges, others }),
                Some('[') => return Err(Unreadable::Unsupported("[ in [".into())),
                Some('&') if self.peek() == Some('&') => {
                    return Err(Unreadable::Unsupported("&& in [".into()));
                }
                Some('\\') => escaped(self.next())?,
                Some(c) => Set::one(c),
            };
            first = false;
            if set.others {
                return Err(Unreadable::Unsupported("an opposite in [".into()));
            }
            let single = set.ranges.first().filter(|r| r.0 == r.1).map(|r| r.0);
            let goes_on =
                self.peek() == Some('-') && self.rest.get(self.at + 1).is_some_and(|c| *c != ']');
            let (Some(from), true) = (single, goes_on) else {
                ranges.extend(set.ranges);
                continue;
            };
            self.at += 1;
            let to = match self.next() {
                Some('\\') => escaped(self.next())?.ranges.first().map(|r| r.0),
                to => to,
            };
            match to {
                Some(to) if from <= to => ranges.push((from, to)),
                Some(_) => return Err(Unreadable::Backwards),
                None => return Err(Unreadable::Unbalanced('[')),
            }
        }
    }

    fn repetition(&mut self) -> Result<Option<(u32, Option<u32>)>, Unreadable> {
        let (sign, found) = match self.peek() {
            Some('*') => ('*', (0, None)),
            Some('+') => ('+', (1, None)),
            Some('?') => ('?', (0, Some(1))),
            Some('{') => return self.counted(),
            _ => return Ok(None),
        };
        self.at += 1;
        // Lazy: what is found is found sooner, and that is all.
        if !self.take('?') && self.peek() == Some('+') {
            return Err(Unreadable::Unsupported(format!("{sign}+")));
        }
        Ok(Some(found))
    }

    /// `{m}`, `{m,}`, `{,n}`, `{m,n}`; anything else is a plain `{`.
    fn counted(&mut self) -> Result<Option<(u32, Option<u32>)>, Unreadable> {
        let inside: String = {
            let after = self.rest[self.at + 1..].iter();
            after.take_while(|c| **c != '}').take(16).collect()
        };
        let length = inside.chars().count();
        if self.rest.get(self.at + 1 + length) != Some(&'}') {
            return Ok(None);
        }
        let number = |text: &str| text.parse::<u32>().ok();
        let (least, most) = match inside.split_once(',') {
            None => (number(&inside), number(&inside)),
            Some(("", "")) => return Ok(None),
            Some(("", most)) => (Some(0), number(most)),
            Some((least, "")) => (number(least), Some(u32::MAX)),
            Some((least, most)) => (number(least), number(most)),
        };
        let (Some(least), Some(most)) = (least, most) else {
            return Ok(None);
        };
        let most = Some(most).filter(|m| *m != u32::MAX);
        if least > COUNT_LIMIT || most.is_some_and(|m| m > COUNT_LIMIT) {
            return Err(Unreadable::TooMuch("large a number in `{}`"));
        }
        if most.is_some_and(|m| m < least) {
            return Err(Unreadable::Backwards);
        }
        self.at += length + 2;
        self.take('?');
        Ok(Some((least, most)))
    }
}

/// What stands behind a backslash.
fn escaped(c: Option<char>) -> Result<Set, Unreadable> {
    let plain = match c {
        None => return Err(Unreadable::Unsupported("\\ at the end".into())),
        Some('n') => '\n',
        Some('r') => '\r',
        Some('t') => '\t',
        Some(c) if c.is_alphanumeric() => {
            return Set::class(c).ok_or_else(|| Unreadable::Unsupported(format!("\\{c}")));
        }
        Some(c) => c,
    };
    Ok(Set::one(plain))
}

fn compile(node: &Node, program: &mut Vec<Step>) -> Result<(), Unreadable> {
    if program.len() >= PROGRAM_LIMIT {
        return Err(Unreadable::TooMuch("large"));
    }
    match node {
        Node::One(set) => program.push(Step::One(set.clone())),
        Node::At(place) => program.push(Step::At(*place)),
        Node::All(nodes) => nodes.iter().try_for_each(|n| compile(n, program))?,
        Node::Any(choices) => {
            let mut ends = Vec::new();
            for (n, choice) in choices.iter().enumerate() {
                let fork = program.len();
                let last = n + 1 == choices.len();
                if !last {
                    program.push(Step::Jump(0));
                }
                compile(choice, program)?;
                if !last {
                    ends.push(program.len());
                    program.push(Step::Jump(0));
                    program[fork] = Step::Fork(fork + 1, program.len());
                }
            }
            let end = program.len();
            ends.into_iter()
                .for_each(|at| program[at] = Step::Jump(end));
        }
        Node::Repeat(inner, least, most) => {
            for _ in 0..*least {
                let before = program.len();
                compile(inner, program)?;
                // Nothing, however often: `(){255}` in `{255}` in ... would take for ever.
                if program.len() == before {
                    break;
                }
            }
            match most {
                None => {
                    let fork = program.len();
                    program.push(Step::Jump(0));
                    compile(inner, program)?;
                    program.push(Step::Jump(fork));
                    program[fork] = Step::Fork(fork + 1, program.len());
                }
                Some(most) => {
                    let mut forks = Vec::new();
                    for _ in *least..*most {
                        forks.push(program.len());
                        program.push(Step::Jump(0));
                        compile(inner, program)?;
                    }
                    let end = program.len();
                    for fork in forks {
                        program[fork] = Step::Fork(fork + 1, end);
                    }
                }
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
