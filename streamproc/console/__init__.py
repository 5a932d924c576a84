"""The read side: an API and a live page of what the database has and the topics bring. Nothing is written.

In the order that a request meets them:

    access      who may read: a token, or a browser on this machine
    parameters  what a URL asks for, or what is wrong with it
    reading     the database, asked by few at once, each within a bound
    api         `/api/`: sensors, their windows, what was told
    following   the topics `windows` and `events`, from now on
    live        what of them each client gets: bounded, and resumable
    stream      `/api/live`: that as server-sent events
    page        `/`: HTML, CSS and a script, in the words of `texts`
    operations  what each route says of itself
    problems    every refusal (RFC 9457)
    app         the routes, and the process around them
"""
