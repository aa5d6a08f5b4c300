#!/usr/bin/env python3
"""Sends one file by Python's smtplib. Usage: send.py HOST PORT FROM FILE TO..."""
import smtplib
import sys

host, port, sender, path, *recipients = sys.argv[1:]
with open(path, "rb") as file, smtplib.SMTP(host, int(port), timeout=60) as server:
    server.ehlo("python.peer.test")
    server.sendmail(sender, recipients, file.read(), mail_options=["BODY=8BITMIME"])
