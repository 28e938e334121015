: # a test writes here what the stage has to suffer
