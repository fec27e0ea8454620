defmodule Image.ZeroShot.Test.Exits do
  @moduledoc false

  # Ends VMs in every way and at every stage of a model's life, and says how each of them ended.

  alias Image.ZeroShot

  @labels ["a cat", "a dog"]
  @picture {:path, "priv/samples/dog.jpg"}
  # Whatever a VM does, it is not waited for longer.
  @patience 60_000

  @doc "The ways to end a VM, and the status that each is to end with."
  def ways, do: [stop: 0, halt: 0, halt_3: 3, sigterm: 0]

  @doc "What the model of a VM is doing at that moment."
  def stages, do: [:loading, :exporting, :running, :idle]

  @doc """
  Ends a VM after a random time, and returns its exit status, what it wrote before, and the
  milliseconds that it took to end.
  """
  def end_one(model, way, stage, cache, seed) do
    port = start("#{inspect(__MODULE__)}.child(#{inspect([model, way, stage, cache, seed])})")
    {:os_pid, pid} = Port.info(port, :os_pid)
    written = read_until(port, "ending\n", "")
    start = now()
    if way == :sigterm, do: {"", 0} = System.cmd("kill", ["-TERM", "#{pid}"])
    {status, rest} = read_to_the_end(port, "")
    %{status: status, output: written <> rest, time: now() - start}
  end

  @doc false
  # In the VM that ends.
  def child([model, way, stage, cache, seed]) do
    {:ok, _} = Application.ensure_all_started(:image_zero_shot)
    :rand.seed(:exsss, seed)
    reach(stage, if(stage == :exporting, do: [cache_dir: cache] ++ model, else: model))
    IO.write("ending\n")
    leave(way)
  end

  # As long as loading takes, and exporting, with the model that comes with the library.
  defp reach(:loading, model), do: begin_loading(model, 300)
  defp reach(:exporting, model), do: begin_loading(model, 900)

  defp reach(:running, model) do
    :ok = ZeroShot.load(model)
    for _ <- 1..8, do: spawn(fn -> classify_for_ever(model) end)
    pause(50)
  end

  defp reach(:idle, model), do: {:ok, _} = ZeroShot.try_classify(@picture, @labels, model)

  defp begin_loading(model, most) do
    spawn(fn -> ZeroShot.load(model) end)
    pause(most)
  end

  defp pause(most), do: Process.sleep(:rand.uniform(most))

  defp classify_for_ever(model) do
    ZeroShot.try_classify(@picture, @labels, model)
    classify_for_ever(model)
  end

  defp leave(:stop), do: System.stop(0)
  defp leave(:halt), do: System.halt(0)
  defp leave(:halt_3), do: System.halt(3)
  defp leave(:sigterm), do: :ok

  defp start(code) do
    paths = Enum.flat_map(:code.get_path(), &["-pa", &1])
    arguments = ["--no-halt", "-e", code | paths]
    # Replaced by the VM at last, so that the signal goes to it.
    elixir = System.find_executable("elixir")
    options = [:binary, :exit_status, :stderr_to_stdout, args: arguments]
    Port.open({:spawn_executable, elixir}, options)
  end

  defp read_until(port, text, read) do
    if String.ends_with?(read, text) do
      read
    else
      receive do
        {^port, {:data, data}} -> read_until(port, text, read <> data)
        {^port, {:exit_status, status}} -> raise "ended with #{status} before its time: #{read}"
      after
        @patience -> raise "does not get to its end: #{read}"
      end
    end
  end

  defp read_to_the_end(port, read) do
    receive do
      {^port, {:data, data}} -> read_to_the_end(port, read <> data)
      {^port, {:exit_status, status}} -> {status, read}
    after
      @patience -> {:still_running, read}
    end
  end

  defp now, do: System.monotonic_time(:millisecond)
end
