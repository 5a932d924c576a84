"""Dead letters: what is on the topic `dead-letter`, why, and sent again after a fix.

`reader` reads the topic, `found` decodes its records, `index` keeps a row for each letter, `reasons` classes them, `resend`
makes a letter's record anew, `redrive` sends and marks, `view` words what people see.
"""
