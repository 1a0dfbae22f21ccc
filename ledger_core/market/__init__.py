"""The market: pure arithmetic over offers; it sees records, units and errors, and reads no clock.

orders    one order of a book, and its checks
book      the order book: insert, remove, match by price and time
clearing  the uniform call auction of one slot
terms     an offer as rules see it
reasons   why something is, or is not, sold or bought
buying    buying rules: criteria to a decision, the cheapest first
selling   selling rules: drafts of offers, answers to requests and to changed terms, replacing offers
prices    what an asking price is made of
surplus   what a home can spare or needs, slot by slot
"""
