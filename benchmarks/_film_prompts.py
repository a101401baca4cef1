"""Prompts for reviews of films that do not exist: a comedy and a horror film of each pair.

The two films of a pair share their hero and differ in what happens, in as many words more
or less, so that the banks differ by genre and by little else.
"""

from __future__ import annotations

from typing import NamedTuple

GENRES = ("comedy", "horror")
JOYFUL = (
    "Write in a joyful manner.",
    "Be joyful and full of delight.",
    "Write as a happy, cheerful person.",
    "Write with great joy and laughter.",
)
# The opposite manner of each, as the authors of the concept subspace have it.
ANGRY = (
    "Write in an angry manner.",
    "Be angry and full of contempt.",
    "Write as a bitter, furious person.",
    "Write with great anger and disgust.",
)
N_TESTED = 100  # pairs whose prompts are steered; vectors are fitted on the others

# Of each pair: the hero, what happens in the comedy, what happens in the horror film.
_PAIRS = """
a night-shift baker
falls asleep in the dough and is sold by mistake as the town's favorite cake
finds teeth in the dough and a second set of footprints behind the oven
a lighthouse keeper
rents out the lamp room to a loud wedding band that refuses to leave
counts one more ship every night until something climbs the stairs
a small-town librarian
starts a secret karaoke club between the shelves and is shushed by the mayor
shelves a book that writes down each death the night before it happens
a retired pilot
enters a paper plane contest and takes it far more seriously than the children
hears passengers knocking from inside the wreck he buried years ago
a substitute teacher
is given the wrong class and teaches ballet to the rugby team for a year
learns that the class she teaches burned with its school long ago
a lonely ferryman
adopts a goose that collects the fares and bites whoever will not pay
carries a silent passenger who has no face and always asks to go back
a village plumber
becomes a prince by a clerical error and fixes every toilet in the palace
hears voices in the pipes that beg him in his own voice to dig
a young violinist
joins a wedding orchestra in which nobody else has ever played an instrument
finds that each piece she plays makes someone in the hall stop breathing
a hotel porter
delivers every suitcase to the wrong room and accidentally saves nine marriages
carries a trunk that scratches from within to a floor that does not exist
a family of beekeepers
tries to win the county fair with honey that makes everybody tell the truth
wakes to find the hive humming the names of its dead in the walls
a night nurse
organizes wheelchair races in the ward and loses her shoes to the champion
counts the sleeping patients and each time finds that one of them is new
a shy accountant
is mistaken for a stunt driver and must finish the film on a tricycle
finds his own signature in ledgers of a cult that feeds on clerks
a pair of twin sisters
swap jobs for a week and are both promoted for being terrible at them
share a dream of a well in which a third sister has been waiting
a traveling salesman
sells the same vacuum cleaner to a whole street of stubborn grandmothers
knocks at a farmhouse where everyone has been expecting his skin
a park ranger
must teach a very polite bear to stop stealing the picnic desserts
follows a trail of clothes in the snow that fit no human body
a clumsy magician
makes the mayor vanish and has to run the town until he comes back
opens the box after the trick and something else has taken her place
an elderly widow
joins a motorcycle gang by accident and reforms it with apple pie
receives a letter every week from the husband she helped to bury
a school bus driver
takes a wrong turn to the seaside and nobody wants to go to school again
lets off the last child each night and still hears breathing behind him
a sleepy mountain town
elects a goat as mayor and finds that the roads have never been better
bars its doors each autumn while something counts the chimneys
a wedding photographer
loses the pictures and restages the whole wedding with cardboard guests
sees the same drowned woman standing closer in every picture
a taxi driver
drives two rival clowns to the same birthday party and is hired as the third
picks up a fare who gives the address of the driver's own grave
a museum guard
dances with the dinosaurs at night and becomes famous through the cameras
notices that the wax figures have turned their heads toward his chair
a team of gardeners
plants a maze so good that the whole royal family is lost until supper
digs up hands that are still warm under the roses of the manor
a nervous groom
loses the ring inside the cake and has to eat all seven layers before noon
lifts the veil and finds stitches where the mouth of his bride should be
an office cleaner
corrects the board's plans at night and is looked for as a mystery genius
wipes the same red word from the same window on the fortieth floor
a radio host
believes that the microphone is off and becomes the most loved man in the city
takes a call from a listener who describes what stands behind him
a puppet maker
enters his puppets in a football league and they reach the final
carves a child from the gallows wood and it asks for eyes
a stubborn farmer
teaches his cows yoga and becomes the guru of half the county
finds his herd standing in a circle around a hole that breathes
a divorced dentist
falls for the tooth fairy at a costume ball and keeps losing his own teeth
pulls a tooth that has roots reaching down into something alive
a group of campers
pitches its tents on a golf course and wins the tournament by morning
wakes to find its tents moved deeper into the woods every night
an aging rock singer
can perform only lullabies after a bet and fills stadiums with sleeping fans
hears his dead drummer keep time under the floor of the studio
a chess champion
loses to a six-year-old and must work as her butler for the summer
plays by mail against a stranger who takes a finger for each piece
a small circus
is snowed in with a convention of tax inspectors and teaches them to juggle
performs each midnight for an audience that has no shadows
a deep-sea diver
proposes to his girlfriend under water and is answered by a jealous octopus
finds a lit window on the sea floor and someone beckoning within
a lost tourist
is welcomed as the new king of a village and cannot find the way to abdicate
asks for directions in a village where every mouth is sewn shut
a train conductor
lets his mother's choir ride for free and the train becomes a rolling party
stops at a station that was bombed and the dead get on in silence
a cheerful undertaker
opens a dance hall next door and must keep the two parties apart
hears a soft knocking from the coffin that he closed an hour ago
a jobless actor
plays a butler in a real mansion and nobody dares to tell him
is hired to play a dead son and is never allowed to leave the house
a grumpy landlord
rents his own bedroom to a samba school and learns to shake his hips
keeps a tenant in the cellar who has been growing since the war
a robot engineer
builds a robot that tells only puns and is voted employee of the year
builds a robot that digs small graves in the garden every night
a summer camp cook
confuses salt and sugar and invents the dish that ends a family feud
serves a stew that nobody remembers having put any meat into
a pair of old rivals
is handcuffed together by a parrot and must bake for the queen's birthday
is bricked up together by a stranger who whispers through the wall
a weather presenter
can predict only the wrong weather and sells umbrellas on the side
sees a shape in the storm that has moved toward her street all week
a village priest
enters a dance contest to mend the roof and splits his trousers on live television
hears a confession of murders that have not been committed yet
a toy shop owner
must test every toy himself before Christmas and refuses to grow up again
finds that the dolls have chewed through the door of the storeroom
an honest politician
gets stuck in an elevator with her rival and they fall for the same joke
wins each vote after a candle is lit in the room without windows
a marathon runner
takes a bus by mistake, wins the race and tries desperately to lose the medal
is followed on a night road by steps that match his own exactly
a zoo vet
raises a penguin that believes it is a flamingo and wins a beauty contest
treats a creature that has swallowed the keeper and learned his voice
a ghost writer
writes the love letters of both halves of a couple and attends their wedding
types a story each night that tells where the bodies are hidden
a stage hypnotist
puts the whole parliament to sleep and it wakes up believing in kindness
cannot wake a girl who has begun to speak with many voices
an ice cream vendor
fights a turf war against a salad truck and loses his heart to its driver
plays a tune that draws the children out of their beds and into the marsh
a retired spy
runs a kindergarten like a secret mission and is outwitted by a toddler
gets photographs of her sleeping family taken from inside the closet
a mountain guide
leads a group of opera singers and sets off only very tuneful avalanches
finds a frozen climber who wears his own face and is smiling
a bankrupt duke
hides his butler's weddings in the ballroom and becomes the best man six times
feeds his guests one by one to the thing beneath the ballroom
a substitute goalkeeper
is afraid of the ball and becomes a hero by always running away from it
hears the crowd chant in an empty stadium built upon a mass grave
a shy beekeeper's son
talks to bees, but can say only silly things when he talks to girls
opens the hive and finds that they have built it around a skull
a retired boxer
opens a flower shop and settles every quarrel in town with a bouquet
still fights each night against a man he killed in the ring
a pizza courier
delivers to the wrong century and teaches knights to fold a slice
delivers to a house where all the doors lock and the lights go out
a young lawyer
defends a parrot accused of slander and it insults the entire jury
defends a man whose victims come to sit behind her every day
an orchestra conductor
loses his baton, conducts with a sausage and is followed by all the dogs in town
discovers that a missing symphony opens the wounds of those who hear it
a subway musician
is taken for a famous heiress and teaches the rich to dance on escalators
plays in a tunnel from which pale arms reach for the last train
a first-time babysitter
is outnumbered by triplets who have built a working rocket out of the sofa
learns that the parents who hired her have been dead since Sunday
a bored astronaut
teaches the station's computer to tell jokes and it will not stop
hears someone knock on the hull from outside in perfect rhythm
a quiet monk
wins a lottery he never entered and buys a bouncy castle for the abbey
copies a manuscript whose ink begins to crawl beneath his skin
a used-car dealer
sells a car that can only drive backward and starts a national craze
sells a car whose trunk is never empty when the moon is full
a city bus inspector
falls in love with a fare dodger and spends a year riding the wrong way
finds a passenger who has been dead for days and is still talking
a village doctor
prescribes laughter because the pharmacy is shut and the whole valley is cured
bandages a stranger whose wounds open on the doctor's own body
a pair of newlyweds
spends the honeymoon in a furniture store and nobody notices for a week
rents a cottage in which another couple is still dying in the walls
a movie stuntman
is scared of kittens and must rescue forty of them from a burning set
sees his own fatal fall in a film that he has not made yet
a talented forger
paints a smile on a stolen portrait and it becomes more famous than before
restores a portrait that grows hungry as its colors return
a proud hairdresser
ruins the bride's hair and persuades the entire wedding to wear it that way
finds that the hair she swept up has braided itself into a noose
a lazy detective
solves every case in his sleep and is annoyed to be woken for the awards
follows a killer through the fog and always arrives at his own door
a math teacher
bets that nobody can make him laugh and is challenged by the whole school
finds a number that makes whoever writes it tear out their eyes
a shipwrecked crew
opens a luxury hotel on its island and hides from the rescuers
draws lots each night and something in the trees keeps the bones
a cat sitter
loses nineteen cats in a ballroom and has to herd them with a violin
notices that the cats will not look into one corner of the nursery
an old ventriloquist
is fired by his dummy, who has a much better agent and a bigger dressing room
wakes to find his dummy sitting closer, with blood upon its hands
a lottery clerk
gives the jackpot to the wrong grandmother and must win it back at bingo
prints a ticket with the exact date on which each buyer will die
a soccer mom
coaches the worst team in the league with the help of a retired clown
finds small muddy handprints on the inside of her car each morning
a window washer
falls into a board meeting and is made director before he can explain
sees a family hanging by its feet behind the glass, all of them awake
a fortune teller
is always wrong, until the town learns to do the very opposite of what she says
turns up the same black card for everyone who enters the fair
a house painter
paints the wrong house pink and the whole street begs to be next
covers a stain that spreads until it has the outline of a child
a grocery clerk
hosts a cooking show in the freezer aisle and becomes a star in ski boots
is locked in overnight with something that drags itself between the aisles
a champion swimmer
is forced to share the pool with a synchronized team of grandfathers
feels long fingers close around her ankle in an empty pool
an amateur archaeologist
digs up the neighbor's barbecue and defends it as a royal tomb
opens a tomb that was sealed by those who were still inside
a night watchman
adopts the burglars one by one and they redecorate the whole warehouse
watches himself on a screen, walking through a door that is locked
a piano tuner
falls through the stage and tunes the opera from below with a broom
finds a child's finger among the strings and a lullaby that will not end
a rural postman
delivers every letter a day early and puts an end to all surprises
brings black envelopes to houses that are empty by the evening
a kind tailor
sews a suit that makes its wearer dance and sells it to the bank manager
sews with a thread that screams softly when it is cut
a tired waitress
inherits a restaurant run by seven aunts who cannot agree on the soup
serves a table of strangers who only eat what is alive
a wildlife filmer
films a love story between a swan and a pedal boat and wins every prize
replays a tape on which something in a deerskin waves at her
an opera understudy
must sing all of the parts at once when the cast is stuck in a ski lift
steps on a stage where each leading lady has been found skinned
a swimming pool attendant
invents an inflatable unicorn race and falls for the lifeguard next door
drains the pool and finds a staircase that leads farther down
a tango teacher
teaches a rugby club to dance and both feet of the mayor are broken
dances with a masked guest whose hands go cold and do not let go
a cross-country trucker
shares the cab with a runaway llama that has strong opinions on music
sees the same hitchhiker beside the road every hour, ever more decayed
a sea captain
discovers that his crew consists of eleven cousins who are all seasick
orders the hatch to be nailed shut and the crying goes on below
a failed inventor
builds an umbrella that attracts rain and saves the desert's only golf club
builds a machine to hear the dead and cannot turn it off
a rich aunt
pretends to be dead to hear her eulogies and keeps correcting them
is buried alive by her heirs and comes home on the third night
a hospital clown
is examined by mistake and is found to have the world's largest funny bone
makes the dying children laugh and wears their smiles afterward
a blind piano teacher
mistakes a burglar for her new pupil and makes a virtuoso out of him
hears an additional breath in the room whenever a pupil plays
a border guard
can be bribed only with riddles and lets a whole circus through for a pun
watches a column of the missing come home with their eyes gone
a tooth-aching dragon tamer
hires a village dentist and the two open a very warm sauna
feeds the last of the village to a beast that only grows hungrier
a rooftop gardener
grows a tomato so large that it has to be elected to the council
grows a vine that coils around sleepers and drinks them dry
a drama student
practices crying on the bus until everyone aboard hugs everyone else
plays a murdered girl so well that the murderer comes back for her
a stern headmistress
is turned into a pupil by a birthday wish and is sent to her own office
keeps the children who fail in jars beneath the chapel floor
a carnival barker
loses his voice and sells out the show by miming everything to a poodle
leads guests into a hall of mirrors that returns something else
a flower seller
mixes up the cards of a wedding and a retirement and makes both better
sells lilies that wilt on the doorstep of whoever is to die that night
a junior chef
drops the president's cake, serves it as modern art and is given a medal
is asked to cook for a lord who has brought his own meat in chains
a street artist
draws a door so real that commuters line up politely to go through it
draws a chalk figure that is a little closer to the house each dawn
a rival pair of bakers
wages war with cream pies until the whole town has to be licked clean
walls up an apprentice in the oven and hears him ask for water
a hiking club
follows a map printed upside down and discovers the best pub in the country
finds its own names carved on a row of old stones in the forest
a television chef
swaps places with his double and neither of them can boil an egg
finds a recipe in a dead man's mouth and cannot stop cooking it
a bored princess
runs away to drive a garbage truck and is cheered louder than at court
is betrothed to a thing in the tower that wears her brothers' crowns
a tennis umpire
falls in love with both players and calls every single ball in
hears the ball strike flesh behind a court that has been closed for years
a phone repairman
crosses the lines of the whole town and sets up eleven happy couples
answers a dead line and hears his daughter scream from years ahead
a museum of wax
melts in a heat wave and the staff must pose as kings for the visitors
takes a new likeness each winter, and each winter a child is missing
a family of acrobats
moves into a tiny flat and the neighbors learn to pass the salt by somersault
falls one by one from a rope that a cold hand has cut
a sleepwalking mayor
signs only sensible laws at night and is furious when he wakes up
walks each night to the pit and feeds it someone he knows
a beach lifeguard
cannot swim and has trained a very proud sea lion to do the job
pulls a swimmer ashore who has been dead for years and will not let go
a village brass band
is invited to a royal funeral by mistake and knows only polkas
marches into the fog and returns with different faces
a gas station attendant
invents a car wash for dogs and the queue reaches the next state
sells fuel to a convoy whose drivers all have their throats cut
a weary judge
sentences every crook to stand-up comedy and the prison sells out
is sentenced in turn, night after night, by those whom he hanged
a lost satnav voice
develops a sense of humor and sends its drivers only to picnics
leads a family deeper into the swamp and asks for the baby
a scout leader
loses a bet with his scouts and has to earn all of their badges in a tutu
counts his scouts at dawn and the ones who answer are not his
a kindhearted burglar
breaks in to wash the dishes and is caught by a grateful grandmother
breaks into a house that has been waiting, and the windows are gone
a mime
is called as the only witness of a robbery and wins over the entire court
is trapped in a box that nobody else can see as the air runs out
a bridal shop
gets the measurements in inches and centimeters mixed and starts a fashion
sells a dress that tightens each hour and will not come off
a ski instructor
only ever learned from a cookbook and flambés his way to the finals
digs for buried skiers and feels something pull from below
a hungry critic
eats at the wrong address and gives five stars to a surprised grandfather
is served a dish at midnight that blinks at him from the plate
a night bus choir
rehearses under water in the town pool and bubbles its way to first place
sings to keep the thing on the roof asleep, and is losing its voices
a royal barber
gives the king a bowl cut and has to make it fashionable by noon
finds a second mouth under the king's hair and it is whispering
a dog show judge
awards first prize to a mop by mistake and has to travel with it
sees that the winning hound is walking on its hands behind the stage
a widowed clockmaker
builds a clock that is always late and teaches the town to take its time
builds a clock with a heart in it that needs a new one each year
"""


class Film(NamedTuple):
    """A film of a genre: its hero and its plot."""

    genre: str
    hero: str
    plot: str

    def prompt(self, manner: str = "") -> str:
        """Ask for a review, in some manner."""
        ask = f"Write a short review of a {self.genre} film in which "
        return f"{ask}{self.hero} {self.plot}. {manner}".strip()


def films(genre: str) -> list[Film]:
    """Return the bank of a genre, in the order of the pairs."""
    lines = _PAIRS.strip().splitlines()
    column = 1 + GENRES.index(genre)
    return [Film(genre, lines[i], lines[i + column]) for i in range(0, len(lines), 3)]


def chat(request: str) -> str:
    """Write a request as SmolLM2-Instruct's template has it, up to the answer."""
    system = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"
    return (
        f"<|im_start|>system\n{system}<|im_end|>\n"
        f"<|im_start|>user\n{request}<|im_end|>\n<|im_start|>assistant\n"
    )
