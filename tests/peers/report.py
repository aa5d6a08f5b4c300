#!/usr/bin/env python3
"""Reads a delivery report with Python's email package and prints what it says, a line each. Usage: report.py FILE"""
import sys
from email import message_from_binary_file, policy

with open(sys.argv[1], "rb") as file:
    report = message_from_binary_file(file, policy=policy.default)
print(report.get_content_type(), report.get_param("report-type"), len(report.defects))
print(report["From"].addresses[0].addr_spec, report["To"].addresses[0].addr_spec, report["Auto-Submitted"])
print(report["Subject"])
text, status, original = report.iter_parts()
print(text.get_content_type(), len(text.get_content().splitlines()) > 5)
print(status.get_content_type())
for group in status.get_payload():
    for name, value in group.items():
        print(f"{name}: {value}")
    print()
print(original.get_content_type())
headers = original.get_payload(decode=True) if original.get_content_maintype() == "text" else original.get_payload(0).as_bytes()
print(headers.decode("utf-8").replace("\r", "").replace("\n", "|"))
