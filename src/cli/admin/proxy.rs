//! `-p` and `-u`: the line for proxy.conf (bundle.md 6.2).

use super::words::Words;
use crate::base::files;
use crate::base::secret::Secret;
use crate::cli::bundle::interactive::{self, AtTerminal, Person};
use crate::host::Host;
use crate::settings::proxy;
use crate::workspace::{self, exchange};
use crate::{err, out};

/// The line that `-p` and `-u` stand for; `None` without `-p`. A password is asked for at the
/// terminal.
pub fn line(words: &Words) -> Result<Option<Secret>, u8> {
    let Some(user) = &words.proxy_user else {
        return Ok(words.proxy.clone());
    };
    let Some(line) = &words.proxy else {
        out!("error\tA proxy user (-u) needs a proxy (-p)");
        return Err(4);
    };
    if !interactive::somebody_is_there() {
        err!(
            "error\tThe proxy password for {} is asked for at a terminal, and this is none: give it as -p user:password@host:port",
            shown(user)
        );
        return Err(2);
    }
    let question = format!("Proxy password for {}:", shown(user));
    let Some(password) = AtTerminal.ask_secret(&question) else {
        err!("error\tno password was given");
        return Err(2);
    };
    Ok(Some(with_password(line, user, &password)))
}

/// A name is no secret; what moves a terminal's cursor is left out.
fn shown(user: &str) -> String {
    user.chars().filter(|c| !c.is_control()).take(256).collect()
}

/// `user:password@host:port`, behind the scheme when there is one. Signs that would mean something
/// else there are written as their codes.
fn with_password(line: &Secret, user: &str, password: &Secret) -> Secret {
    let (scheme, rest) = match line.expose().split_once("://") {
        Some((scheme, rest)) => (format!("{scheme}://"), rest),
        None => (String::new(), line.expose()),
    };
    let password = proxy::escape(password.expose());
    Secret::new(format!(
        "{scheme}{}:{}@{rest}",
        *proxy::escape(user),
        *password
    ))
}

/// Writes proxy.conf; exit code 4 when the line is none.
pub fn save(host: &Host, line: &Secret) -> u8 {
    let parsed = exchange::check_proxy(line).map_err(anyhow::Error::from);
    let saved = parsed.and_then(|_| {
        let owner = workspace::onboarding::service_owner(host)?;
        let look = files::Look::owned(0o600, owner);
        files::write_atomic(&host.layout.proxy_conf(), line.expose().as_bytes(), look)
    });
    match saved {
        Ok(()) => {
            let path = host.layout.proxy_conf();
            out!("info\tCreated proxy configuration: {}", path.display());
            0
        }
        Err(e) => {
            out!("error\t{e:#}");
            4
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_and_password_stand_behind_the_scheme() {
        let made = |line| {
            let line = with_password(&Secret::new(line), "me", &Secret::new("p:w"));
            line.expose().to_owned()
        };
        assert_eq!(made("proxy:3128"), "me:p:w@proxy:3128");
        assert_eq!(made("http://proxy:3128"), "http://me:p:w@proxy:3128");
        assert!(proxy::parse(&made("proxy:3128")).is_ok());
        let line = Secret::new("proxy:3128");
        let made = with_password(&line, "me", &Secret::new("p@ss %41"));
        assert_eq!(made.expose(), "me:p%40ss%20%2541@proxy:3128");
    }

    #[test]
    fn a_user_alone_is_refused() {
        let typed = ["-u".into(), "me".into()];
        let words = super::super::words::parse(&typed).unwrap();
        assert_eq!(line(&words).err(), Some(4));
    }
}
