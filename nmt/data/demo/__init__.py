"""The embedded demo corpus: a synchronous English-German grammar and what it generates.

`corpus` makes the files; `grammar` draws sentences of clauses, which are made of noun phrases, predicates
and companions (objects, places, times) and put into the word order of each language.
"""
