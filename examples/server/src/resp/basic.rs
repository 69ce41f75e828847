//! Commands about the connection itself.

use super::parse::Arguments;
use super::reply::Failure;
use super::session::Context;
use super::table::Answer;
use crate::store::Patience;

/// The version that clients are told in place of Redis' own: they choose what they use by it.
pub(super) const REDIS_VERSION: &str = "7.0.0";

pub(super) fn ping(context: &mut Context<'_>, arguments: Arguments<'_>, _: Patience) -> Answer {
    match arguments.len() {
        1 => context.reply.simple("PONG"),
        2 => context.reply.bulk(arguments.get(1)),
        _ => return Err(Failure::new("wrong number of arguments for 'ping' command")),
    }
    Ok(())
}

pub(super) fn echo(context: &mut Context<'_>, arguments: Arguments<'_>, _: Patience) -> Answer {
    context.reply.bulk(arguments.get(1));
    Ok(())
}

pub(super) fn quit(context: &mut Context<'_>, _: Arguments<'_>, _: Patience) -> Answer {
    context.reply.ok();
    context.state.close = true;
    Ok(())
}

/// There is one database.
pub(super) fn select(context: &mut Context<'_>, arguments: Arguments<'_>, _: Patience) -> Answer {
    if arguments.get(1) != b"0" {
        return Err(Failure::new("DB index is out of range"));
    }
    context.reply.ok();
    Ok(())
}

/// `AUTH password` or `AUTH default password`.
pub(super) fn auth(context: &mut Context<'_>, arguments: Arguments<'_>, _: Patience) -> Answer {
    let (user, password) = match arguments.len() {
        2 => (&b"default"[..], arguments.get(1)),
        3 => (arguments.get(1), arguments.get(2)),
        _ => return Err(Failure::new("syntax error")),
    };
    if !context.shared.secret.is_set() {
        return Err(Failure::new(
            "AUTH <password> called without any password configured for the default user. Are \
             you sure your configuration is correct?",
        ));
    }
    log_in(context, user, password)?;
    context.reply.ok();
    Ok(())
}

fn log_in(context: &mut Context<'_>, user: &[u8], password: &[u8]) -> Answer {
    if context.shared.secret.admits(password) && user == b"default" {
        context.state.authenticated = true;
        return Ok(());
    }
    context.state.client.note_guess();
    context.state.close = context.state.client.has_guessed_enough();
    Err(Failure::Client("WRONGPASS invalid username-password pair or user is disabled.".into()))
}

/// `HELLO [version [AUTH user password] [SETNAME name]]`.
pub(super) fn hello(context: &mut Context<'_>, arguments: Arguments<'_>, _: Patience) -> Answer {
    let mut three = context.state.three;
    if arguments.len() > 1 {
        three = match arguments.get(1) {
            b"2" => false,
            b"3" => true,
            _ => return Err(Failure::Client("NOPROTO unsupported protocol version".into())),
        };
    }
    let mut at = 2;
    while at < arguments.len() {
        let option = arguments.get(at);
        if option.eq_ignore_ascii_case(b"AUTH") && at + 2 < arguments.len() {
            if context.shared.secret.is_set() {
                log_in(context, arguments.get(at + 1), arguments.get(at + 2))?;
            }
            at += 3;
        } else if option.eq_ignore_ascii_case(b"SETNAME") && at + 1 < arguments.len() {
            super::server::set_name(context, arguments.get(at + 1))?;
            at += 2;
        } else {
            return Err(Failure::new("syntax error in HELLO"));
        }
    }
    if !context.state.authenticated {
        return Err(Failure::Client(
            "NOAUTH HELLO must be called with the client already authenticated, otherwise the \
             HELLO <proto> AUTH <user> <pass> option can be used to authenticate the client and \
             select the RESP protocol version at the same time"
                .into(),
        ));
    }
    context.state.three = three;
    context.reply.three = three;
    let id = context.state.client.id as i64;
    let reply = &mut context.reply;
    reply.map(7);
    for (name, value) in [("server", "redis"), ("version", REDIS_VERSION)] {
        reply.bulk(name.as_bytes());
        reply.bulk(value.as_bytes());
    }
    for (name, value) in [("proto", if three { 3 } else { 2 }), ("id", id)] {
        reply.bulk(name.as_bytes());
        reply.integer(value);
    }
    for (name, value) in [("mode", "standalone"), ("role", "master")] {
        reply.bulk(name.as_bytes());
        reply.bulk(value.as_bytes());
    }
    reply.bulk(b"modules");
    reply.array(0);
    Ok(())
}
