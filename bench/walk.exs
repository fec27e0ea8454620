# The way of a picture through the modules: traces every call inside the library during one
# `classify/3` of a JPEG against three new labels, on a serving that is idle.
#
#     mix run bench/walk.exs
#
# Prints the modules in the order in which they are entered, and the climbs: calls back into a module
# that waits for the one that calls.

:ok = Image.ZeroShot.load(repo: :embedded)
photo = File.read!("priv/samples/dog.jpg")
_first = Image.ZeroShot.classify(photo, ["warm", "up"], repo: :embedded)

{:ok, modules} = :application.get_key(:image_zero_shot, :modules)
Enum.each(modules, &Code.ensure_loaded!/1)
library = Enum.filter(modules, &String.starts_with?(inspect(&1), "Image.ZeroShot"))

[{_id, server, _type, _modules}] =
  DynamicSupervisor.which_children(Image.ZeroShot.Serving.Supervisor)

processes = [caller: self(), serving: server]

{:ok, events} = Agent.start_link(fn -> [] end)

tracer =
  spawn_link(fn ->
    Stream.repeatedly(fn -> receive(do: (event -> event)) end)
    |> Enum.each(fn event -> Agent.update(events, &[event | &1]) end)
  end)

for module <- library,
    do: :erlang.trace_pattern({module, :_, :_}, [{:_, [], [{:return_trace}]}], [:local])

for {_name, pid} <- processes, do: :erlang.trace(pid, true, [:call, tracer: tracer])
_results = Image.ZeroShot.classify(photo, ["a cat", "a dog", "a pizza"], repo: :embedded)
for {_name, pid} <- processes, do: :erlang.trace(pid, false, [:call])

for {_name, pid} <- processes do
  delivered = :erlang.trace_delivered(pid)
  receive do: ({:trace_delivered, ^pid, ^delivered} -> :ok)
end

Process.sleep(100)
events = Agent.get(events, &Enum.reverse/1)

walk = fn pid ->
  Enum.reduce(events, {[], [], []}, fn
    {:trace, ^pid, :call, {module, _function, _arguments}}, {stack, seen, climbs} ->
      climb = module in stack and hd(stack) != module
      climbs = if climb, do: [{hd(stack), module} | climbs], else: climbs
      {[module | stack], [module | seen], climbs}

    {:trace, ^pid, :return_from, _function, _value}, {[_module | stack], seen, climbs} ->
      {stack, seen, climbs}

    _other, state ->
      state
  end)
end

all =
  for {name, pid} <- processes do
    {_stack, seen, climbs} = walk.(pid)
    seen = seen |> Enum.reverse() |> Enum.uniq()
    IO.puts("#{name}: #{length(seen)} modules")
    Enum.each(seen, &IO.puts("    #{inspect(&1)}"))
    for {from, to} <- climbs, do: IO.puts("  climb from #{inspect(from)} to #{inspect(to)}")
    seen
  end

IO.puts("both: #{all |> List.flatten() |> Enum.uniq() |> length()} modules")
