"""The read side: an API and a live page of what is in the database and on the topics. It writes nothing.

In the order that a request meets them:

    access      who may read: with a token, or from a browser on this machine
    parameters  what a URL asks for, or what is wrong with it
    reading     the database: few calls at once, each with a time limit
    api         `/api/`: sensors, their windows and events
    following   reads the topics `windows` and `events` from now on
    live        what each live client gets of them: bounded, and resumable
    stream      `/api/live`: the same as server-sent events
    page        `/`: HTML, CSS and a script, with the texts of `words`
    operations  what each route says of itself in the OpenAPI document
    problems    refusals (RFC 9457)
    listening   the address, with a bound on connections
    app         the routes, and the process around them
"""
